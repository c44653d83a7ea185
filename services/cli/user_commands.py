"""The commands ``twitter user ...``: accounts, as the operator opens, sees, suspends and deletes them."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Annotated, Any, Final

import httpx
import msgspec
import typer
from rich.table import Table

from services.cli.accounts import JsonOption, UserArgument, find_account
from services.cli.console import out, plain, print_json
from services.cli.errors import USAGE, CommandFailed
from services.cli.importing.api import Api
from services.cli.settings import DATA_DIR, DataOption, find_system
from services.common.errors import LogUnavailable
from services.common.events import AccountDeleted, UserReinstated, UserSuspended
from services.common.ids import created_at
from services.common.log.append import AccountEvent, AppendItem
from services.common.log.client import EventLog

ASK_SECONDS: Final = 2.0

user_app = typer.Typer(name="user", no_args_is_help=True, help="Open, show, suspend, reinstate and delete accounts.")


class AccountReport(msgspec.Struct, frozen=True):
    """An account as its operator sees it. ``profile`` is null where the read service does not answer, or not yet."""

    id: int
    username: str
    has_password: bool
    tokens_revoked_at: str | None
    suspended_at: str | None
    profile: dict[str, Any] | None


class Changed(msgspec.Struct, frozen=True):
    """What was done to an account, and where the log says so."""

    id: int
    username: str
    event: str
    position: int


@user_app.command()
def create(
    username: Annotated[str, typer.Argument(help="1 to 30 of A-Z a-z 0-9 _")],
    email: Annotated[
        str,
        typer.Argument(
            help="An e-mail address that no account has; who lists processes on this machine sees it meanwhile."
        ),
    ],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Take a password from the first line of the input.")
    ] = False,
    data_dir: DataOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Open an account through the write service, and print its tokens, once.

    Without a password the refresh token is the only credential that the account has.
    """
    system = find_system(data_dir)
    body = {"username": username, "email": email}
    if password_stdin:
        body["password"] = sys.stdin.readline().rstrip("\n")
    with closing(Api(system.write_url, system.read_url)) as api:
        answer = api.write("/users", body)
    if answer.status != httpx.codes.CREATED:
        raise CommandFailed(f"{username} was not created: {answer.code}: {answer.detail}")
    if as_json:
        print_json(answer.body)
        return
    out().print(f"@{username} has the id {answer.body['id']}", markup=False)
    for name in ("access_token", "refresh_token"):
        out().print(f"{name}: {answer.body.get(name, 'none, the write service has no keys')}", markup=False)


@user_app.command()
def show(user: UserArgument, data_dir: DataOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Show an account: its profile, and whether it may act. Its e-mail address is nobody's to see."""
    system = find_system(data_dir)
    with closing(EventLog(system.redis_url)) as log:
        user_id, held = find_account(log, user)
    report = AccountReport(
        id=user_id,
        username=held.username,
        has_password=held.password_hash is not None,
        tokens_revoked_at=_at(held.revoked_position),
        suspended_at=_at(held.suspended_position),
        profile=_profile(system.read_url, user_id),
    )
    if as_json:
        print_json(report)
        return
    table = Table(show_header=False, title=f"@{report.username}")
    for name, value in (*msgspec.structs.asdict(report).items(), *(report.profile or {}).items()):
        if name not in {"profile", "username"}:
            table.add_row(name, plain("" if value is None else str(value)))
    out().print(table)


@user_app.command()
def suspend(user: UserArgument, data_dir: DataOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Bar an account from acting, at once and everywhere.

    Its tokens are useless, also after it is reinstated; to log in, to refresh and to write are refused with
    account_suspended. Its profile and its tweets stay visible. To suspend it again changes nothing but the position.
    """
    _change(user, UserSuspended, data_dir, as_json=as_json)


@user_app.command()
def reinstate(user: UserArgument, data_dir: DataOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Let a suspended account act again, after a new log-in."""
    _change(user, UserReinstated, data_dir, as_json=as_json)


@user_app.command()
def delete(
    user: UserArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data_dir: DataOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Delete an account and its tweets, for good, as its holder can with DELETE /users/me.

    Its e-mail address is free at once, its name after 30 days.
    """
    if not yes:
        if as_json:
            raise CommandFailed("--json asks nothing: add --yes", USAGE)
        typer.confirm(f"Delete {user} and all its tweets, for good?", abort=True, err=True)
    _change(user, AccountDeleted, data_dir, as_json=as_json)


def _change(
    user: str,
    event_type: type[UserSuspended | UserReinstated | AccountDeleted],
    data_dir: DataOption,
    *,
    as_json: bool,
) -> None:
    with closing(EventLog(find_system(data_dir).redis_url)) as log:
        user_id, held = find_account(log, user)
        event = event_type(user_id=user_id)
        changed = Changed(user_id, held.username, event.name, _append(log, event))
    if as_json:
        print_json(changed)
    else:
        what = changed.event.replace("_", " ")
        out().print(f"@{changed.username} (id {user_id}): {what} at {changed.position}", markup=False)


def _append(log: EventLog, event: AccountEvent) -> int:
    """The position of the event. Raises CommandFailed when the account is gone, WritesRefused, LogUnavailable."""
    try:
        (result,) = log.append([AppendItem(event)]).results
    except LogUnavailable as error:
        raise LogUnavailable(f"{error}; it may have been done all the same: look, or do it again") from error
    if isinstance(result, str):
        raise CommandFailed(f"the log refused it: {result}")
    return int(result)


def _profile(read_url: str, user_id: int) -> dict[str, Any] | None:
    try:
        answer = httpx.get(f"{read_url}/users/{user_id}", timeout=ASK_SECONDS, trust_env=False)
        return msgspec.json.decode(answer.raise_for_status().content, type=dict[str, Any])
    except (httpx.HTTPError, msgspec.DecodeError):
        return None


def _at(position: int) -> str | None:
    return created_at(position) if position else None
