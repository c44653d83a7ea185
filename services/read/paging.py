"""Pages of a list as query parameters and Link headers."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Query

from services.common.ids import BEGINNING, POSITION_MAX
from services.common.views import Page, Window

LIMIT_MAX: Final = 100
LIMIT_DEFAULT: Final = 10
HOME_LIMIT_DEFAULT: Final = 20
OFFSET_MAX: Final = 10_000

MaxId = Annotated[
    int | None,
    Query(ge=1, le=POSITION_MAX, description="Only what comes after this cursor of an earlier page (exclusive)."),
]
SinceId = Annotated[
    int, Query(ge=0, le=POSITION_MAX, description="Only what is newer than this cursor of an earlier page (exclusive).")
]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="How many items at most.")]
Offset = Annotated[
    int, Query(ge=0, le=OFFSET_MAX, description="How many items to skip; cursors are better, as lists grow at the top.")
]


async def _window(limit: Limit = LIMIT_DEFAULT, max_id: MaxId = None, since_id: SinceId = BEGINNING) -> Window:
    return window_of(limit, max_id, since_id)


async def _home_window(
    limit: Limit = HOME_LIMIT_DEFAULT, max_id: MaxId = None, since_id: SinceId = BEGINNING
) -> Window:
    return window_of(limit, max_id, since_id)


def window_of(limit: int, max_id: int | None = None, since_id: int = BEGINNING) -> Window:
    """The window that these parameters describe."""
    return Window(limit, since_id=since_id) if max_id is None else Window(limit, max_id, since_id)


ListWindow = Annotated[Window, Depends(_window)]
HomeWindow = Annotated[Window, Depends(_home_window)]


def link_header(path: str, page: Page[Any], window: Window) -> str | None:
    """The Link header (RFC 8288) of a page: ``next`` leads to older items, ``prev`` to newer ones.

    ``next`` stays within the window's ``since_id``, so that whoever catches up can walk down to where she was.
    """
    links = []
    if page.has_more and page.oldest is not None:
        since = f"&since_id={window.since_id}" if window.since_id else ""
        links.append(f'<{path}?limit={window.limit}&max_id={page.oldest}{since}>; rel="next"')
    if page.newest is not None:
        links.append(f'<{path}?limit={window.limit}&since_id={page.newest}>; rel="prev"')
    return ", ".join(links) or None
