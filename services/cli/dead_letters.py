"""The commands ``twitter dead-letters ...``: what the projection refused for good, and what is to become of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Final

import httpx
import msgspec
import typer
from rich.table import Table

from services.cli.accounts import JsonOption
from services.cli.console import out, plain, print_json
from services.cli.errors import FAILED, CommandFailed
from services.cli.owner import owner_position
from services.cli.settings import DATA_DIR, DataOption, System, find_system
from services.common.errors import LogUnavailable, OwnerUnavailable
from services.common.events import DeadLetterDropped, DeadLetterReplayed, UserCreated
from services.common.log.append import AppendItem
from services.common.log.client import EventLog

LETTERS_MAX: Final = 1000
ASK_SECONDS: Final = 5.0
APPLIED_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.1

PositionsArgument = Annotated[list[int], typer.Argument(metavar="POSITION...", help="As `list` shows them.")]

dead_letters_app = typer.Typer(
    name="dead-letters", no_args_is_help=True, help="List, show, replay and drop entries that were refused for good."
)


class Letter(msgspec.Struct, frozen=True):
    """An entry that was refused for good."""

    position: int
    created_at: str
    name: str
    version: int
    reason: str
    payload: str


class Decided(msgspec.Struct, frozen=True):
    """What became of a dead letter: applied, dropped, or still refused for a reason; and which entry said so."""

    position: int
    event_position: int
    outcome: str
    reason: str | None = None


@dead_letters_app.command("list")
def list_letters(
    after: Annotated[int, typer.Option(min=0, help="Begin after this position.")] = 0,
    data_dir: DataOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """List the dead letters, oldest first, at most 1,000."""
    letters = _letters(find_system(data_dir), after, LETTERS_MAX)
    if as_json:
        print_json(letters)
        return
    table = Table("position", "at", "event", "reason")
    for letter in letters:
        table.add_row(str(letter.position), letter.created_at, plain(letter.name), letter.reason)
    out().print(table if letters else "no dead letters")


@dead_letters_app.command()
def show(
    position: Annotated[int, typer.Argument(min=1, help="As `list` shows it.")],
    data_dir: DataOption = DATA_DIR,
    as_json: JsonOption = False,
) -> None:
    """Show a dead letter with its payload."""
    letter = _letter(find_system(data_dir), position)
    if as_json:
        print_json(letter)
        return
    for field in letter.__struct_fields__:
        out().print(f"{field}: {plain(str(getattr(letter, field)))}", markup=False)


@dead_letters_app.command()
def replay(positions: PositionsArgument, data_dir: DataOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Have every copy take dead letters up again, after a fix: decoded anew, and applied under their own positions.

    One that still cannot be applied stays, with the new reason; then the exit code is 1.
    """
    system = find_system(data_dir)
    for position in positions:
        if _letter(system, position).name == UserCreated.name:
            raise CommandFailed(
                f"dead letter {position} is an account; its name and e-mail were given back: drop it, and open another"
            )
    decided = _decide(system, [DeadLetterReplayed(position=position) for position in positions])
    _report(decided, as_json=as_json)
    if any(letter.reason for letter in decided):
        raise typer.Exit(FAILED)


@dead_letters_app.command()
def drop(positions: PositionsArgument, data_dir: DataOption = DATA_DIR, as_json: JsonOption = False) -> None:
    """Give dead letters up, on every copy. They stay in the archive."""
    system = find_system(data_dir)
    for position in positions:
        _letter(system, position)
    _report(_decide(system, [DeadLetterDropped(position=position) for position in positions]), as_json=as_json)


def _decide(system: System, events: Sequence[DeadLetterReplayed | DeadLetterDropped]) -> list[Decided]:
    """Append what was decided, and say what became of it once the owner has applied it."""
    with closing(EventLog(system.redis_url)) as log:
        results = log.append([AppendItem(event, target=event.position) for event in events]).results
    refused = next((result for result in results if not isinstance(result, int)), None)
    if refused is not None:
        raise CommandFailed(f"the log has refused it: {refused}; is REDIS_URL that of this system?")
    appended = [int(result) for result in results]
    _wait_until_applied(system, appended[-1])
    return [_outcome(system, event, position) for event, position in zip(events, appended, strict=True)]


def _outcome(system: System, event: DeadLetterReplayed | DeadLetterDropped, event_position: int) -> Decided:
    if isinstance(event, DeadLetterDropped):
        return Decided(event.position, event_position, "dropped")
    left = next(iter(_letters(system, event.position - 1, 1)), None)
    if left is not None and left.position == event.position:
        return Decided(event.position, event_position, "refused", left.reason)
    return Decided(event.position, event_position, "applied")


def _wait_until_applied(system: System, position: int) -> None:
    deadline = time.monotonic() + APPLIED_SECONDS_MAX
    while owner_position(system.owner_url).position < position:
        if time.monotonic() > deadline:
            raise LogUnavailable(f"it is in the log at {position}, but the db-updater has not come to it yet")
        time.sleep(POLL_SECONDS)


def _report(decided: list[Decided], *, as_json: bool) -> None:
    if as_json:
        print_json(decided)
        return
    for letter in decided:
        reason = f": {letter.reason}" if letter.reason else ""
        out().print(f"{letter.position} {letter.outcome}{reason}", markup=False)


def _letter(system: System, position: int) -> Letter:
    found = _letters(system, position - 1, 1)
    if not found or found[0].position != position:
        raise CommandFailed(f"there is no dead letter {position}: see `twitter dead-letters list`")
    return found[0]


def _letters(system: System, after_position: int, letters_max: int) -> list[Letter]:
    parameters = {"after_position": after_position, "letters_max": letters_max}
    url = f"{system.owner_url}/internal/dead-letters"
    try:
        answer = httpx.get(url, params=parameters, timeout=ASK_SECONDS, trust_env=False).raise_for_status()
        return msgspec.json.decode(answer.content, type=list[Letter])
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise OwnerUnavailable(f"the db-updater at {system.owner_url} does not answer about dead letters") from error
