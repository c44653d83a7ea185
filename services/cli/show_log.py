"""The command ``twitter log``: where the log is, who has applied how much of it, and what comes in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Annotated, Any, Final

import httpx
import msgspec
import typer
from rich.table import Table

from services.cli.console import out, plain, print_json, say
from services.cli.owner import OwnerPosition, owner_position
from services.cli.settings import DATA_DIR, DataOption, System, find_system
from services.common.errors import LogUnavailable, OwnerUnavailable
from services.common.ids import created_at, unix_ms_of
from services.common.log.client import EventLog, LogStatus
from services.common.log.entry import Entry

BLOCK_MS: Final = 500
RETRY_SECONDS: Final = 0.5
ASK_SECONDS: Final = 2.0


class Follower(msgspec.Struct, frozen=True):
    """How much of the log somebody has applied. ``lag_seconds`` is the age of the oldest entry not applied."""

    applied_position: int
    lag_entries: int
    lag_seconds: float
    stale_seconds: float | None = None


class LogReport(msgspec.Struct, frozen=True):
    """The log and its followers; a follower that does not answer is null."""

    log: LogStatus
    owner: Follower | None
    archived_position: int | None
    reader: Follower | None


def show_log(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on and print entries as they come.")] = False,
    after: Annotated[
        int | None, typer.Option(min=0, help="With --follow: begin after this position. [default: the head]")
    ] = None,
    data_dir: DataOption = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, an object a line with --follow.")] = False,
) -> None:
    """Show the log: its head, horizon, length and memory, and who has applied how much of it."""
    system = find_system(data_dir)
    with closing(EventLog(system.redis_url)) as log:
        if follow:
            _follow(log, after if after is not None else log.status().head, as_json=as_json)
            return
        report = read_report(system, log)
    if as_json:
        print_json(report)
    else:
        out().print(_table(report))


def read_report(system: System, log: EventLog) -> LogReport:
    """Ask the log and its followers. Raises LogUnavailable."""
    owner = _owner(system.owner_url)
    reader = _reader(system.read_url)
    status = log.status()
    return LogReport(
        log=status,
        owner=_follower(log, status, owner.position) if owner else None,
        archived_position=owner.archived_position if owner else None,
        reader=_follower(log, status, reader[0], reader[1]) if reader else None,
    )


def _follower(log: EventLog, status: LogStatus, position: int, stale_seconds: float | None = None) -> Follower:
    waiting = _entries_after(log, position)
    oldest = next(waiting, None)
    if oldest is None:
        return Follower(position, 0, 0.0, stale_seconds)
    lag_seconds = max(0.0, (status.time_ms - unix_ms_of(oldest.position)) / 1000)
    return Follower(position, 1 + sum(1 for _ in waiting), round(lag_seconds, 3), stale_seconds)


def _entries_after(log: EventLog, position: int) -> Iterator[Entry]:
    while entries := log.read(position):
        yield from entries
        position = entries[-1].position


def _owner(url: str) -> OwnerPosition | None:
    try:
        return owner_position(url)
    except OwnerUnavailable:
        return None


def _reader(url: str) -> tuple[int, float | None] | None:
    """The position of the read service that answers, and for how long it has not heard from the log."""
    try:
        headers = httpx.get(f"{url}/", timeout=ASK_SECONDS, trust_env=False).headers
        stale = headers.get("X-Stale-Seconds")
        return int(headers["X-Log-Position"]), float(stale) if stale is not None else None
    except (httpx.HTTPError, KeyError, ValueError):
        return None


def _follow(log: EventLog, after_position: int, *, as_json: bool) -> None:
    """Print entries until interrupted. It only looks: unlike a follower it never halts the log."""
    is_away = False
    try:
        while True:
            try:
                entries = log.read(after_position, block_ms=BLOCK_MS)
            except LogUnavailable as error:
                if not is_away:
                    say(f"{error}; waiting for it")
                is_away = True
                time.sleep(RETRY_SECONDS)
                continue
            is_away = False
            for entry in entries:
                typer.echo(msgspec.json.encode(_as_object(entry)) if as_json else _as_line(entry))
                after_position = entry.position
    except KeyboardInterrupt:
        return


def _as_object(entry: Entry) -> dict[str, Any]:
    return {
        "position": entry.position,
        "prev": entry.prev,
        "at": created_at(entry.position),
        "name": entry.name,
        "version": entry.version,
        "payload": entry.payload.decode(errors="replace"),
    }


def _as_line(entry: Entry) -> str:
    payload = entry.payload.decode(errors="backslashreplace")
    return plain(f"{entry.position}  {created_at(entry.position)}  {entry.name:<15}  {payload}")


def _table(report: LogReport) -> Table:
    log = report.log
    table = Table(show_header=False, title="the log")
    table.add_row("head", f"{log.head}  {created_at(log.head) if log.head else 'empty'}")
    table.add_row("horizon", f"{log.horizon}  {created_at(log.horizon)}" if log.horizon else "no entries")
    table.add_row("length", f"{log.length:,} entries, {log.memory_bytes / 2**20:,.1f} MiB")
    table.add_row("epoch", str(log.epoch) if log.epoch else "not started: the db-updater starts it")
    table.add_row("writes", "halted: " + log.halt if log.halt else "open" if log.epoch else "closed")
    table.add_row("owner", _describe(report.owner))
    table.add_row("archived", f"up to {report.archived_position}" if report.owner else "not known")
    table.add_row("reader", _describe(report.reader))
    return table


def _describe(follower: Follower | None) -> str:
    if follower is None:
        return "does not answer"
    if follower.stale_seconds is not None:
        return f"at {follower.applied_position}, has not heard from the log for {follower.stale_seconds:g} s"
    if not follower.lag_entries:
        return f"at {follower.applied_position}, has all"
    return f"at {follower.applied_position}, {follower.lag_entries:,} entries ({follower.lag_seconds:g} s) behind"
