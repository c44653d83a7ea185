"""No part outlives its supervisor, not even one that was killed with SIGKILL.

Linux kills the children itself (PR_SET_PDEATHSIG). Elsewhere a small reaper process holds the other end of a
pipe: the pipe closes with the supervisor, however it ends, and the reaper kills what is still on its list.
SIGKILL, because every part is made to survive it, and nobody is left to wait for a polite stop.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> Callable[[], None] | None:
    """What a child calls between fork and exec so that it dies with its parent; None where only the reaper helps."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def ask_kernel() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return ask_kernel


class Reaper:
    """A process that kills the children on its list when this process is gone. Use as a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if sys.platform != "linux":
            self.start()
        return self

    def start(self) -> None:
        """Start the process, whatever the platform."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.cli.dev.orphans"],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        """Put a child on the list."""
        self._tell(f"+{pid}")

    def forget(self, pid: int) -> None:
        """Take a child that has ended off the list; its number may soon be somebody else's."""
        self._tell(f"-{pid}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.communicate()

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # somebody killed the reaper: best effort ends here
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()


def reap(lines: Iterable[str]) -> None:
    """Keep the list that the lines describe, and kill what is on it when they end."""
    pids: set[int] = set()
    for line in lines:
        pid = int(line[1:])
        pids.add(pid) if line[0] == "+" else pids.discard(pid)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    reap(sys.stdin)
