"""The author of a new tweet, as the answer shows her."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from services.common.shapes import UserView
from services.write.existence import Existence, Finding, Kind, Verdict

FRESH_SECONDS: Final = 45.0
"""How old a view may be before it is asked for again, beside the tweet and not before it."""

KEPT_SECONDS: Final = 60.0
"""How much an author's counters may lag in the answer to a new tweet; the read service is exact."""

AUTHORS_MAX: Final = 10_000


class Authors:
    """Views of authors. Only one that is unknown here, or too old to be shown, is waited for."""

    def __init__(
        self,
        existence: Existence,
        *,
        authors_max: int = AUTHORS_MAX,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._existence = existence
        self._monotonic = monotonic
        self._authors_max = authors_max
        self._views: OrderedDict[int, tuple[float, UserView]] = OrderedDict()
        self._refreshes: dict[int, asyncio.Task[None]] = {}

    def remember(self, view: UserView) -> None:
        """Note how a user looks now."""
        self._views[view.id] = (self._monotonic(), view)
        self._views.move_to_end(view.id)
        if len(self._views) > self._authors_max:
            self._views.popitem(last=False)

    def forget_all(self) -> None:
        """Show nobody from memory any more: the log lost entries."""
        self._views.clear()

    async def view(self, user_id: int) -> UserView | None:
        """The author, None if nobody can say now. Raises the 404 if she provably does not exist."""
        return self.known(user_id) or self._note(user_id, await self._existence.find(Kind.USER, user_id))

    def known(self, user_id: int) -> UserView | None:
        """The author, if she need not be waited for."""
        seen_at, view = self._views.get(user_id, (0.0, None))
        age_seconds = self._monotonic() - seen_at
        if view is None or age_seconds > KEPT_SECONDS:
            return None
        if age_seconds > FRESH_SECONDS and user_id not in self._refreshes:
            self._refreshes[user_id] = asyncio.create_task(self._refresh(user_id))
        return view

    async def _refresh(self, user_id: int) -> None:
        try:
            self._note(user_id, await self._existence.look(Kind.USER, user_id))
        finally:
            del self._refreshes[user_id]

    def _note(self, user_id: int, finding: Finding) -> UserView | None:
        if finding.verdict is Verdict.ABSENT:
            self._views.pop(user_id, None)
        if finding.user is not None:
            self.remember(finding.user)
        return finding.user
