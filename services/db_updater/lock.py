"""Two owners on one volume exclude each other; two on different volumes are told apart by the fence."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from services.common.errors import StorageUnfit


class VolumeLock:
    """Holds a file until closed or until the process ends, however it ends.

    Raises StorageUnfit, naming the holder, while another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise StorageUnfit(
                f"{path.parent} already has an owner ({holder}, see {path}): stop that one first"
            ) from error
        self._file.truncate(0)
        self._file.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def close(self) -> None:
        """Let another owner have the volume. The file stays: removing it would let two hold two files."""
        self._file.close()
