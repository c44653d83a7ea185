"""Where a process keeps its replica files: a directory of its own, which goes when the process does."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from services.common.errors import StorageUnfit

log = structlog.get_logger(__name__)

_LOCK = "lock"
_PREFIX = "reader-"


class ReplicaDirectory:
    """A new directory below ``root``. It is locked for as long as this process lives, however it ends.

    Directories that nobody locks belonged to processes that are dead, and are removed first. Raises StorageUnfit.
    """

    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            # Nobody may take a directory for a dead process's between its making and its locking.
            with _locked(root / _LOCK):
                _remove_leftovers(root)
                self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
                self._lock = _lock(self.path / _LOCK, fcntl.LOCK_EX)
        except OSError as error:
            raise StorageUnfit(f"REPLICA_DIR {root} cannot be used: {error}") from error
        self._files = 0

    def new_file(self) -> Path:
        """A path in it that was not given before."""
        self._files += 1
        return self.path / f"replica-{self._files}.db"

    def close(self) -> None:
        """Remove the directory with all that is in it."""
        shutil.rmtree(self.path)
        os.close(self._lock)


def _remove_leftovers(root: Path) -> None:
    for directory in root.glob(f"{_PREFIX}*"):
        try:
            lock = _lock(directory / _LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        shutil.rmtree(directory)
        os.close(lock)
        log.info("replica_removed", path=str(directory))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


def _lock(path: Path, mode: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
