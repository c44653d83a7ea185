"""The command ``twitter rebuild``: the database anew, from archive and stream."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from services.cli.console import out, print_json, progress
from services.cli.errors import USAGE, CommandFailed
from services.cli.history import archived_log, build_database, whole_log
from services.cli.settings import DATA_DIR, DataOption, System, find_system
from services.common.fsync import fsync_path
from services.common.log.client import EventLog
from services.common.log.entry import Entry

SIDECARS: Final = ("-wal", "-shm")


class Rebuilt(msgspec.Struct, frozen=True):
    """What was made. ``replaced`` is where the owner's old database is now, None if it was not replaced."""

    path: str
    position: int
    entries: int
    seconds: float
    replaced: str | None


def rebuild(
    output: Annotated[Path | None, typer.Option(help="The new file. [default: rebuilt.db in the data]")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of the owner's database; the owner must be down.")
    ] = False,
    data_dir: DataOption = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make the database anew from archive and stream, into a new file.

    With --replace the new one takes the place of the owner's, which is kept beside it. What users gave in
    confidence is in a file of its own and stays as it is.
    """
    system = find_system(data_dir)
    if replace and output:
        raise CommandFailed("--replace writes the owner's database: leave --output out", USAGE)
    target = output or data_dir / "rebuilt.db"
    if target.exists() and not replace:
        raise CommandFailed(f"{target} exists: remove it, or name another file with --output", USAGE)
    rebuilt = _replace(system) if replace else _rebuild(system, target)
    if as_json:
        print_json(rebuilt)
    else:
        rate = rebuilt.entries / rebuilt.seconds if rebuilt.seconds else 0.0
        out().print(f"{rebuilt.path}: {rebuilt.entries:,} entries in {rebuilt.seconds:,.1f} s ({rate:,.0f} a second)")
        if rebuilt.replaced:
            out().print(f"the database before it: {rebuilt.replaced}", markup=False)


def _rebuild_into(target: Path, batches: Iterator[list[Entry]], entries_total: int | None) -> Rebuilt:
    """Build under a temporary name; ``target`` appears only whole and on disk."""
    started = time.monotonic()
    unfinished = target.with_name(f"{target.name}.unfinished")
    for suffix in ("", *SIDECARS):
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
    with progress() as bar:
        applying = bar.add_task("entries applied", total=entries_total)
        state = build_database(unfinished, batches, lambda count: bar.advance(applying, count))
    unfinished.replace(target)
    fsync_path(target.parent)
    return Rebuilt(str(target), state.position, state.entries, round(time.monotonic() - started, 3), None)


def _rebuild(system: System, target: Path) -> Rebuilt:
    """A new database at the head of the log."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with closing(EventLog(system.redis_url)) as log:
        status = log.status()
        return _rebuild_into(target, whole_log(system.archive_dir, log, status.head), status.entries_added)


def _replace(system: System) -> Rebuilt:
    """Put a rebuilt database in the owner's place.

    1. Hold the owner's lock, so that none can start.
    2. Build the new one beside the old one, from the archive only: what comes after it the owner itself applies,
       and copies the private data that belongs to it.
    3. Move the old one away, its sidecars first: a crash between leaves a database that is only older.
    4. Move the new one in.
    """
    database = system.database
    if not isinstance(database, Path):
        raise CommandFailed(
            "--replace puts a SQLite file in place; on PostgreSQL, create an empty database, name it in DATABASE_URL "
            "and start the db-updater: it fills the database from its archive and the log",
            USAGE,
        )
    if not database.parent.is_dir():
        raise CommandFailed(f"there is no {database.parent}: set DATABASE_URL, or --data, to where the owner's is")
    with owner_kept_out(database):
        fresh = database.with_name(f"{database.name}.rebuilt")
        rebuilt = _rebuild_into(fresh, archived_log(system.archive_dir), entries_total=None)
        kept = database.with_name(f"{database.name}.before-{time.strftime('%Y%m%dT%H%M%S')}")
        for suffix in (*SIDECARS, ""):
            old = database.with_name(database.name + suffix)
            if old.exists():
                old.replace(kept.with_name(kept.name + suffix))
        fsync_path(database.parent)
        fresh.replace(database)
        fsync_path(database.parent)
    return msgspec.structs.replace(rebuilt, path=str(database), replaced=str(kept) if kept.exists() else None)


@contextmanager
def owner_kept_out(database: Path) -> Iterator[None]:
    """Hold the lock that an owner holds while it runs. Raises CommandFailed when one does."""
    with database.with_name(f"{database.name}.lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandFailed(f"{database} has an owner that runs: stop the db-updater first") from error
        yield
