"""The command ``twitter verify``: whether the database is what the log says."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from services.cli.compare import TableReport, compare
from services.cli.console import out, print_json, progress, say
from services.cli.errors import FAILED, UNAVAILABLE, CommandFailed
from services.cli.history import build_database, whole_log
from services.cli.owner import fetch_snapshot
from services.cli.settings import DATA_DIR, DataOption, System, find_system
from services.common import projection, snapshot
from services.common.database import open_reader, shown
from services.common.errors import OwnerUnavailable
from services.common.log.client import EventLog


class Verification(msgspec.Struct, frozen=True):
    """The database at a position beside one rebuilt from the whole log up to there."""

    position: int
    entries: int
    seconds: float
    tables: dict[str, TableReport]

    @property
    def holds(self) -> bool:
        """Whether every table is the same."""
        return all(table.is_equal for table in self.tables.values())


def verify(
    data_dir: DataOption = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Rebuild the database from archive and stream, and compare it with the owner's.

    Takes a snapshot from the running db-updater, or copies its database when it is down; nothing is changed. Exit
    code 1 if a table differs; the first keys that do are printed.
    """
    verification = run_verification(find_system(data_dir))
    if as_json:
        print_json(verification)
    else:
        _print(verification)
    if not verification.holds:
        raise typer.Exit(FAILED)


def run_verification(system: System) -> Verification:
    """Verify with progress bars. Raises CommandFailed when there is nothing to compare."""
    started = time.monotonic()
    with TemporaryDirectory(prefix="twitter-verify-") as directory, progress() as bar:
        found, rebuilt = Path(directory) / "found.db", Path(directory) / "rebuilt.db"
        entries = copy_of_the_database(system, found)
        applying = bar.add_task("entries applied", total=entries.entries)
        with closing(EventLog(system.redis_url)) as log:
            batches = whole_log(system.archive_dir, log, entries.position)
            build_database(rebuilt, batches, lambda count: bar.advance(applying, count))
        comparing = bar.add_task("rows compared", total=None)
        tables = compare(found, rebuilt, lambda count: bar.advance(comparing, count))
    return Verification(entries.position, entries.entries, round(time.monotonic() - started, 3), tables)


def copy_of_the_database(system: System, target: Path) -> projection.AppliedState:
    """A copy of the owner's database: from the owner, or a copy made here when it is down."""
    try:
        fetch_snapshot(system.owner_url, target)
    except OwnerUnavailable as error:
        if isinstance(system.database, Path) and not system.database.exists():
            raise CommandFailed(
                f"{error}, and there is no {system.database}: start the db-updater, or set OWNER_URL or DATABASE_URL",
                UNAVAILABLE,
            ) from error
        say(f"{error}: its database {shown(system.database)} is copied instead")
        snapshot.make(system.database, target)
    engine = open_reader(target)
    try:
        with engine.begin() as connection:
            return projection.applied(connection)
    finally:
        engine.dispose()


def _print(verification: Verification) -> None:
    table = Table("table", "rows", "sha256", "rebuilt", title=f"at position {verification.position}")
    for name, report in verification.tables.items():
        verdict = "the same" if report.is_equal else "[red]differs[/red]"
        table.add_row(name, f"{report.rows:,}", report.sha256[:16], verdict)
    console = out()
    console.print(table)
    for name, report in verification.tables.items():
        for difference in report.differences:
            console.print(f"{name} {difference}", markup=False)
    verdict = "the database is what the log says" if verification.holds else "the database is NOT what the log says"
    console.print(f"{verdict} ({verification.entries:,} entries, {verification.seconds:,.1f} s)")
