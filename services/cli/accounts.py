"""Accounts as an operator names them and sees them, from Redis, which knows them at once."""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer

from services.cli.errors import USAGE, CommandFailed
from services.common.ids import POSITION_MAX
from services.common.log.client import EventLog, StoredCredential

_BY_ID: Final = re.compile(r"id:([1-9][0-9]{0,15})")

UserArgument = Annotated[str, typer.Argument(metavar="USER", help="A username, or id:ID.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def find_account(log: EventLog, named: str) -> tuple[int, StoredCredential]:
    """The account that a name, or ``id:ID``, stands for. Raises CommandFailed if there is none, LogUnavailable."""
    by_id = _BY_ID.fullmatch(named)
    if by_id is None and ":" in named:
        raise CommandFailed(f"{named} is neither a username nor id:ID", USAGE)
    user_id = int(by_id[1]) if by_id else log.user_named(named)
    found = log.credentials([user_id]) if user_id is not None and user_id <= POSITION_MAX else {}
    if user_id is None or user_id not in found:
        raise CommandFailed(f"there is no account {named}")
    return user_id, found[user_id]
