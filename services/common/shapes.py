"""What the views take and give. The field names of the views are the wire format (DESIGN section 5).

Beside the views and not among them: the write service answers in these shapes, too, and needs no SQL for it.
"""

from __future__ import annotations

from dataclasses import dataclass, make_dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeVar, get_type_hints

import msgspec

from services.common.ids import BEGINNING, POSITION_MAX

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

EXISTENCE_IDS_MAX: Final = 128
"""As many tweets, and as many users, can be asked about in one question whether they exist."""


class View(msgspec.Struct, gc=False):
    """What goes over the wire: made and encoded in half the time that a dataclass takes; it is in no cycle."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: type[Any], handler: GetCoreSchemaHandler) -> CoreSchema:
        """For OpenAPI, which does not know structs: as a dataclass of these fields."""
        types = get_type_hints(cls)
        fields = [(name, types[name]) for name in cls.__struct_fields__]
        return handler(make_dataclass(cls.__name__, fields, namespace={"__doc__": cls.__doc__}))


class UserView(View):
    """An account as everybody may see it. ``created_at`` is RFC 3339 in UTC."""

    id: int
    username: str
    created_at: str
    followers_count: int
    following_count: int


class ProfileView(UserView):
    """An account on a page of its own: ``name`` and ``bio`` are what its holder says, empty for nothing."""

    name: str
    bio: str


class TweetView(View):
    """A tweet with its counters and its author. What it replies to or quotes may have been deleted since."""

    id: int
    content: str
    user_id: int
    created_at: str
    likes: int
    retweets: int
    user: UserView
    reply_count: int
    in_reply_to_id: int | None
    quote_of_id: int | None


class HomeTweetView(TweetView):
    """A tweet as it appears on a home timeline; ``retweeted_by`` is who brought it there, None for its author."""

    retweeted_by: UserView | None


@dataclass(slots=True)
class Existing:
    """What there is of some tweets and users, as of a position, by their ids: the tweets' authors, and the users."""

    position: int
    authors: dict[int, int]
    users: dict[int, UserView]


class Window(NamedTuple):
    """Which part of a list, newest first: at most ``limit`` items with ``since_id`` < cursor < ``max_id``."""

    limit: int
    max_id: int = POSITION_MAX + 1
    since_id: int = BEGINNING

    @property
    def is_first_page(self) -> bool:
        """Whether nothing can lie above this window."""
        return self.max_id > POSITION_MAX

    def parameters(self) -> dict[str, int]:
        """Those of the statement of a page, which is asked for one row more: it says whether there are older ones."""
        return {"max_id": self.max_id, "since_id": self.since_id, "rows_max": self.limit + 1}


@dataclass(slots=True)
class Page(Generic[T]):
    """Items newest first, the cursors of the first and the last one, and whether there are older ones.

    The cursors are None for a page without items. ``beyond`` is the first of the older ones, if that is how it is known
    that there are some.
    """

    items: list[T]
    newest: int | None
    oldest: int | None
    has_more: bool
    beyond: T | None = None

    @classmethod
    def of(cls, rows: list[tuple[int, T]], limit: int) -> Self:
        """The page made of (cursor, item) rows, of which one more than ``limit`` was asked for."""
        shown, more = rows[:limit], rows[limit:]
        return cls(
            items=[item for _, item in shown],
            newest=shown[0][0] if shown else None,
            oldest=shown[-1][0] if shown else None,
            has_more=bool(more),
            beyond=more[0][1] if more else None,
        )

    @property
    def made_from(self) -> list[T]:
        """The items, and the one beyond: without that it would be another page."""
        return self.items if self.beyond is None else [*self.items, self.beyond]


class Answer(NamedTuple, Generic[T_co]):
    """What a view found, and the position of the state it found it in."""

    read_position: int
    value: T_co
