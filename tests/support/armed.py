"""``python -m tests.support.armed LABEL ACTIONS MODULE``: a service in which a fault point is armed.

Each time the process is at the label the next of ACTIONS is done, with commas between them: ``crash`` (kill -9),
``raise`` (an I/O error) or ``delay``; then nothing more. Each is noted in the file ``armed`` in the working directory,
and a process that is started again goes on after the last one.
"""

from __future__ import annotations

import errno
import os
import runpy
import signal
import sys
import time
from collections import deque
from pathlib import Path
from threading import Lock
from typing import Final

from services.common import faults

DELAY_SECONDS: Final = 0.3
NOTES: Final = "armed"


def struck_in(directory: Path) -> list[str]:
    """What was done at the label so far, by a process that works in this directory."""
    notes = directory / NOTES
    return notes.read_text(encoding="utf-8").split() if notes.exists() else []


def main() -> None:
    """Arm the fault point and run the service."""
    _, label, actions, module = sys.argv
    waiting = deque(actions.split(",")[len(struck_in(Path())) :])
    lock = Lock()

    def strike(reached: str) -> None:
        with lock:
            if reached != label or not waiting:
                return
            action = waiting.popleft()
            with Path(NOTES).open("a", encoding="utf-8") as notes:
                notes.write(f"{action}\n")
        if action == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if action == "delay":
            time.sleep(DELAY_SECONDS)
        if action == "raise":
            raise OSError(errno.EIO, f"armed at {label}")

    faults.armed = strike
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
