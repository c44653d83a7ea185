"""A whole system of the demo's own: a ``twitter dev`` on free ports and on data that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
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
# What could lead the private system to somebody's real data.
FOREIGN: Final = (
    "REDIS_URL", "CACHE_URL", "DATABASE_URL", "READ_SERVICE_URL", "WRITE_SERVICE_URL", "OWNER_URL", "DATA_DIR",
    "ARCHIVE_DIR", "SNAPSHOT_DIR", "REPLICA_DIR", "EMAIL_HASH_KEY", "AUTH_REQUIRED",
    "AUTH_KEYS_FILE",
)  # fmt: skip


@contextmanager
def private_system(data_dir: Path) -> Iterator[DevState]:
    """Run a system on ``data_dir`` for as long as the context lasts. Raises CommandFailed when it does not start."""
    log_path = data_dir / "dev.log"
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
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
    while (state := running_state(data_dir)) is None:
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log_path.read_text(errors="replace").splitlines()
            for line in lines[-LOG_LINES_SHOWN:]:
                say(line)
            raise CommandFailed("the demo's own system did not start: its last lines are above")
        time.sleep(POLL_SECONDS)
    return state


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()  # its parts die with it
        process.wait()
