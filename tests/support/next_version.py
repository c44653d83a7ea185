"""``python -m tests.support.next_version services.db_updater``: a service as its next version might be.

It is of projection version 2, which has one more table and understands one more event.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any, ClassVar, Final

import msgspec
from sqlalchemy import Column, Integer, Table

from services.common import events
from services.common.events import Event, Id

NEXT_VERSION: Final = events.PROJECTION_VERSION + 1


class UserGreeted(Event, frozen=True):
    """What only the next version understands: somebody's bio is a greeting from here on."""

    name: ClassVar[str] = "user_greeted"
    version: ClassVar[int] = NEXT_VERSION
    user_id: Id
    greeting: str


def _become() -> None:
    """Change this program, before anything else of it is imported: importing takes the version over."""
    vars(events)["PROJECTION_VERSION"] = NEXT_VERSION
    events.EVENT_TYPES[UserGreeted.name] = UserGreeted
    events._decoders[UserGreeted.name] = msgspec.json.Decoder(UserGreeted, strict=True)
    from services.common.models import Public  # noqa: PLC0415 - not before the version is changed
    from services.common.projection.handlers import HANDLERS, WANTS  # noqa: PLC0415 - the same

    Table("greetings", Public.metadata, Column("id", Integer, primary_key=True))

    def want(wanted: Any, event: UserGreeted, _position: int) -> None:
        wanted.users.add(event.user_id)

    def greet(rows: Any, event: UserGreeted, _position: int) -> None:
        rows.users.change(event.user_id, {"bio": event.greeting})

    WANTS[UserGreeted.name] = want
    HANDLERS[UserGreeted.name] = greet


if __name__ == "__main__":
    _become()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__")
