"""A whole system in the background: a ``twitter dev`` of its own process, for as long as somebody needs it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.cli.console import say
from services.cli.dev.orphans import die_with_parent
from services.cli.dev.state import DevState, running_state
from services.cli.errors import CommandFailed

START_SECONDS_MAX: Final = 120.0
STOP_SECONDS_MAX: Final = 90.0  # four parts, each with its own patience
POLL_SECONDS: Final = 0.1
LOG_LINES_SHOWN: Final = 20


@contextmanager
def background_system(data_dir: Path, log_path: Path, environment: Mapping[str, str]) -> Iterator[DevState]:
    """Run a system on ``data_dir`` and free ports while the context lasts. Raises CommandFailed if it does not start.

    What it logs goes to ``log_path``.
    """
    ports = [word for part in ("read", "write", "owner", "redis") for word in (f"--{part}-port", "0")]
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "dev", "--data", str(data_dir), *ports],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - no other thread runs yet
        )
    try:
        yield _wait_until_ready(process, data_dir, log_path)
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], data_dir: Path, log_path: Path) -> DevState:
    deadline = time.monotonic() + START_SECONDS_MAX
    while (state := running_state(data_dir)) is None or state.supervisor_pid != process.pid:
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log_path.read_text(errors="replace").splitlines()
            for line in lines[-LOG_LINES_SHOWN:]:
                say(line)
            raise CommandFailed("a system in the background did not start: its last lines are above")
        time.sleep(POLL_SECONDS)
    return state


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()  # its parts die with it
        process.wait()
