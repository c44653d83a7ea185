"""Backups of an owner that runs in the test's own process, and what is in them once they are restored."""

from __future__ import annotations

from pathlib import Path

from services.cli.restoring import put_in_place
from services.common import backup
from services.common.backup import Backup, OwnersFiles, Restored
from tests.support.owner import RunningOwner, archive_path, database_path


def owners_files(directory: Path) -> OwnersFiles:
    """Where an owner of this directory keeps what a backup holds."""
    return OwnersFiles(database_path(directory), directory, archive_path(directory))


def back_up(owner: RunningOwner, volume: Path, directory: Path) -> Backup:
    """A backup of a running owner whose volume is in a directory."""
    return backup.make(owners_files(volume), directory, owner.volume.batch_lock)


def restored(made: Backup, directory: Path) -> Path:
    """A new volume with what a backup holds."""
    backup.verify(made)
    put_in_place(made, owners_files(directory), Restored(made.path.name, made.manifest.position, False), lambda _: None)
    return directory
