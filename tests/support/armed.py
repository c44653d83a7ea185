"""``python -m tests.support.armed MODULE``: a service whose fault points can be armed while it runs, with ``arm``.

Each time the process is at the armed label the next of the actions is done; then nothing more. Each is noted in the
file ``struck`` in the working directory, and a process that is started again goes on after the last one.

=========  ============================================================
``crash``  kill -9
``raise``  an I/O error
``delay``  the thread goes on a little later
``hold``   the thread goes on when the process is disarmed
=========  ============================================================
"""

from __future__ import annotations

import errno
import os
import runpy
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

from services.common import faults

DELAY_SECONDS: Final = 0.3
POLL_SECONDS: Final = 0.01
ORDERS: Final = "armed"
NOTES: Final = "struck"


def arm(directory: Path, label: str, *actions: str) -> None:
    """Let the process that works in this directory, or the next one there, do something at a label."""
    disarm(directory)
    (directory / NOTES).unlink(missing_ok=True)
    written = directory / f"{ORDERS}.tmp"
    written.write_text(" ".join([label, *actions]), encoding="utf-8")
    written.replace(directory / ORDERS)


def disarm(directory: Path) -> None:
    """Let nothing more be done, and whoever is held go on."""
    (directory / ORDERS).unlink(missing_ok=True)


def struck_in(directory: Path) -> list[str]:
    """What was done at the label so far, by processes that work in this directory."""
    notes = directory / NOTES
    return notes.read_text(encoding="utf-8").split() if notes.exists() else []


def listen() -> None:
    """Make this process one that can be armed."""
    lock = Lock()

    def strike(reached: str) -> None:
        with lock:
            action = _next_action(reached)
        match action:
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "raise":
                raise OSError(errno.EIO, f"armed at {reached}")
            case "delay":
                time.sleep(DELAY_SECONDS)
            case "hold":
                while Path(ORDERS).exists():
                    time.sleep(POLL_SECONDS)

    faults.armed = strike


def _next_action(reached: str) -> str | None:
    with suppress(FileNotFoundError):
        label, *actions = Path(ORDERS).read_text(encoding="utf-8").split()
        waiting = actions[len(struck_in(Path())) :]
        if label == reached and waiting:
            with Path(NOTES).open("a", encoding="utf-8") as notes:
                notes.write(f"{waiting[0]}\n")
            return waiting[0]
    return None


if __name__ == "__main__":
    listen()
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
