"""The command ``twitter backup``: everything the owner keeps, copied and verified."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from services.cli.console import out, print_json
from services.cli.errors import CommandFailed
from services.cli.owner import BackupMade, request_backup
from services.cli.rebuild import owner_kept_out
from services.cli.settings import DATA_DIR, DataOption, System, find_system
from services.common import backup as backups


def backup(
    to: Annotated[
        Path | None,
        typer.Option(help="Directory of backups to add one to; the db-updater must be down. [default: ask it]"),
    ] = None,
    data_dir: DataOption = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Make a verified backup of database, private tables, archive and reports.

    A db-updater that runs makes it in its own BACKUP_DIR, also on a schedule. Without one, --to says where. It holds
    e-mail addresses and password hashes: keep it where few can read it.
    """
    system = find_system(data_dir)
    made = request_backup(system.owner_url) if to is None else _back_up(system, to)
    if as_json:
        print_json(made)
    else:
        size = f"{made.size_bytes / 2**20:,.1f} MiB"
        out().print(f"{made.path}: up to position {made.position}, {made.entries:,} entries, {size}", markup=False)


def _back_up(system: System, directory: Path) -> BackupMade:
    source = system.owners_files
    if not source.database.exists() or not source.private.exists():
        raise CommandFailed(f"there is no {source.database}: set DATABASE_URL, or --data, to where the owner's is")
    with owner_kept_out(source.database):
        made = backups.make(source, directory, nullcontext())
    manifest = made.manifest
    return BackupMade(
        path=str(made.path),
        position=manifest.position,
        epoch=manifest.epoch,
        entries=manifest.entries,
        size_bytes=manifest.size_bytes,
        made_at=manifest.made_at,
    )
