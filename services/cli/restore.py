"""The command ``twitter restore``: a backup in the owner's place, and what the log has to add to it."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from services.cli.console import out, print_json, progress, say
from services.cli.errors import CommandFailed
from services.cli.rebuild import owner_kept_out
from services.cli.restoring import is_empty, put_in_place
from services.cli.settings import DATA_DIR, DataOption, System, find_system
from services.common import backup as backups
from services.common.backup import Backup, Restored
from services.common.errors import LogUnavailable
from services.common.log.client import EventLog


class RestoreReport(msgspec.Struct, frozen=True):
    """What was restored.

    ``missing_entries`` were acknowledged after ``position`` and are neither in the backup nor in the log any more;
    null where the log did not answer. ``aside`` is where the files before it are now.
    """

    backup: str
    made_at: str
    position: int
    entries: int
    missing_entries: int | None
    aside: str | None
    seconds: float


def restore(
    source: Annotated[
        Path, typer.Option("--from", help="A backup, or a directory of backups: the newest.", show_default=False)
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Move what the owner has aside.")] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Give up what is neither in the backup nor in the log any more.")
    ] = False,
    data_dir: DataOption = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Put a verified backup in the owner's place; the db-updater must be down. Then start it: it goes on with the log.

    Refuses a volume that holds something, and a backup between which and the log entries are missing.
    """
    report = _restore(find_system(data_dir), source, replace=replace, accept_loss=accept_loss)
    if as_json:
        print_json(report)
        return
    out().print(f"{report.backup}: restored up to position {report.position}, {report.entries:,} entries", markup=False)
    if report.missing_entries:
        out().print(f"{report.missing_entries:,} entries after that are given up", markup=False)
    if report.aside:
        out().print(f"the files before it: {report.aside}", markup=False)
    out().print("now start the db-updater")


def _restore(system: System, source: Path, *, replace: bool, accept_loss: bool) -> RestoreReport:
    started = time.monotonic()
    backup, files = backups.find_backup(source), system.owners_files
    position = backup.manifest.position
    with closing(EventLog(system.redis_url)) as log:
        missing_entries = _look_at_log(log, backup, accept_loss=accept_loss)
        files.database.parent.mkdir(parents=True, exist_ok=True)
        files.directory.mkdir(parents=True, exist_ok=True)
        with owner_kept_out(files.database), progress() as bar:
            if not (replace or is_empty(files)):
                raise CommandFailed(f"{files.database} holds something: --replace moves it aside")
            bar.add_task("files verified", total=None)
            backups.verify(backup)
            applying = bar.add_task("entries applied", total=None)
            decided = Restored(backup.path.name, position, accepts_loss=bool(missing_entries))
            aside = put_in_place(backup, files, decided, lambda count: bar.advance(applying, count))
        if missing_entries:
            log.halt(f"restored from a backup that ends at {position}: {missing_entries} entries are lost", position)
    return RestoreReport(
        backup=str(backup.path),
        made_at=backup.manifest.made_at,
        position=position,
        entries=backup.manifest.entries,
        missing_entries=missing_entries,
        aside=str(aside) if aside else None,
        seconds=round(time.monotonic() - started, 3),
    )


def _look_at_log(log: EventLog, backup: Backup, *, accept_loss: bool) -> int | None:
    """How many entries lie between the backup and the log. Raises CommandFailed when there are, unless accepted."""
    try:
        missing_entries = _missing_entries(log, backup)
    except LogUnavailable as error:
        if accept_loss:
            raise
        say(f"{error}: whether the log goes on from this backup, the db-updater will see when it starts")
        return None
    if missing_entries and not accept_loss:
        raise CommandFailed(
            f"{missing_entries:,} entries after backup {backup.path} are no longer in the log: restore a newer backup, "
            "or give them up, and what the log holds after them, with --accept-loss"
        )
    return missing_entries


def _missing_entries(log: EventLog, backup: Backup) -> int:
    position = backup.manifest.position
    status = log.status()
    following = log.read(position, entries_max=1)
    if status.head <= position or (following and following[0].prev <= position):
        return 0
    return max(status.entries_added - status.length - backup.manifest.entries, 1)
