"""The commands ``twitter token ...``: tokens in an operator's hand, and the keys that sign them all."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from services.cli.accounts import JsonOption, UserArgument, find_account
from services.cli.console import out, print_json
from services.cli.errors import CommandFailed
from services.cli.settings import DATA_DIR, DataOption, find_system
from services.cli.tokens import OperatorTokens
from services.common.auth import KeysUnfit, add_key, remove_key
from services.common.auth.key_file import read_key_file
from services.common.auth.signing_keys import KeySet, SigningKey, parse_keys
from services.common.auth.tokens import LEEWAY_SECONDS, LIFE_SECONDS
from services.common.log.client import EventLog

token_app = typer.Typer(name="token", no_args_is_help=True, help="Issue tokens, and rotate the keys that sign them.")
keys_app = typer.Typer(name="keys", no_args_is_help=True, help="The keys that sign tokens, in AUTH_KEYS_FILE.")
token_app.add_typer(keys_app)


class KeyReport(msgspec.Struct, frozen=True):
    """A key without its secret. ``needed_until`` is when the last token that it signed expires; null: not known yet."""

    kid: str
    signs_from: str
    signs_now: bool
    needed_until: str | None


@token_app.command()
def issue(
    user: UserArgument,
    pair: Annotated[bool, typer.Option("--pair", help="A refresh token, good for 90 days, too.")] = False,
    data_dir: DataOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Print a token to act as a user, good for 15 minutes, signed with the keys of the services.

    To use it at once: curl -H "Authorization: Bearer $(twitter token issue ann)" ...
    """
    system = find_system(data_dir)
    tokens = OperatorTokens.with_keys_of(system.auth_keys_file)
    with closing(EventLog(system.redis_url)) as log:
        head = log.head()
        user_id, held = find_account(log, user)
    if held.suspended_position:
        raise CommandFailed(f"@{held.username} is suspended: no token would be taken; see `twitter user reinstate`")
    issued = tokens.pair(user_id, max(head, held.revoked_position))
    if as_json:
        print_json(msgspec.to_builtins(issued) if pair else {"access_token": issued.access_token})
        return
    typer.echo(issued.access_token)
    if pair:
        typer.echo(issued.refresh_token)


@keys_app.command("list")
def list_keys(data_dir: DataOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Show the keys: which one signs, and which are still needed for tokens that they have signed."""
    path = find_system(data_dir).auth_keys_file
    reports = _reports(_read(path), time.time())
    if as_json:
        print_json(reports)
        return
    table = Table("key", "signs", "needed until", title=str(path))
    for report in reports:
        table.add_row(
            report.kid,
            "now" if report.signs_now else f"from {report.signs_from}",
            report.needed_until or "at least 90 days after its successor signs",
        )
    out().print(table)


@keys_app.command()
def new(data_dir: DataOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Add a key, or make the file with its first one.

    A new key signs five minutes later, so that every service has it by then; the one before it goes on verifying. Keys
    whose last token has expired are dropped.
    """
    path = find_system(data_dir).auth_keys_file
    try:
        added = add_key(path, int(time.time()))
    except KeysUnfit as error:
        raise CommandFailed(f"{path}: {error}") from error
    _show_one(added, path, as_json=as_json)


@keys_app.command()
def retire(
    kid: Annotated[str, typer.Argument(help="The key's name, as `twitter token keys list` has it.")],
    force: Annotated[bool, typer.Option("--force", help="Although tokens that it has signed are still good.")] = False,
    data_dir: DataOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Remove a key; every token that it has signed is useless then. At once, with --force, for a key that leaked."""
    path, now = find_system(data_dir).auth_keys_file, time.time()
    needed = [each for each in _reports(_read(path), now) if each.kid == kid and not _is_over(each, now)]
    if needed and not needed[0].signs_now and not force:
        until = needed[0].needed_until or "later"
        raise CommandFailed(f"tokens signed with {kid} are good until {until}: wait, or end them all with --force")
    try:
        removed = remove_key(path, kid, int(now))
    except KeysUnfit as error:
        raise CommandFailed(f"{path}: {error}") from error
    _show_one(removed, path, as_json=as_json)


def _show_one(key: SigningKey, path: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"kid": key.kid, "signs_from": _time(key.signs_from), "file": str(path)})
    else:
        out().print(f"{key.kid} (signs from {_time(key.signs_from)}), {path}", markup=False)


def _read(path: Path) -> KeySet:
    try:
        return parse_keys(read_key_file(path))
    except KeysUnfit as error:
        raise CommandFailed(f"{path}: {error}: `twitter token keys new` makes one") from error


def _reports(keys: KeySet, now: float) -> list[KeyReport]:
    signer = keys.signer(now)
    ends = {key.kid: successor.signs_from for key, successor in pairwise(keys.keys) if successor.signs_from <= now}
    life = LIFE_SECONDS["refresh"] + LEEWAY_SECONDS
    return [
        KeyReport(
            kid=key.kid,
            signs_from=_time(key.signs_from),
            signs_now=key is signer,
            needed_until=_time(ends[key.kid] + life) if key.kid in ends else None,
        )
        for key in keys.keys
    ]


def _is_over(report: KeyReport, now: float) -> bool:
    return report.needed_until is not None and report.needed_until < _time(now)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
