"""What a running ``twitter dev`` tells others: ``dev.json`` (where everything is) and ``dev.lock`` (that it runs).

The lock, not the file, says whether the system runs: the kernel drops it with the process, so a ``dev.json``
that a killed supervisor left behind is never believed.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from services.cli.errors import CommandFailed

LOCK_WAIT_SECONDS: Final = 0.5  # another command holds the lock for an instant when it looks whether we run


class DevState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parts of a local system are, and their process ids by name."""

    redis_url: str
    read_url: str
    write_url: str
    owner_url: str
    database_url: str
    volume_dir: str
    auth_keys_file: str
    metrics_urls: dict[str, str] = {}
    supervisor_pid: int = 0
    pids: dict[str, int] = {}

    @classmethod
    def at_usual_ports(cls, data_dir: Path) -> DevState:
        """What holds when nobody says otherwise."""
        return cls(
            redis_url="redis://localhost:6379",
            read_url="http://localhost:8000",
            write_url="http://localhost:8001",
            owner_url="http://localhost:8002",
            database_url=str(data_dir / "twitter.db"),
            volume_dir=str(data_dir),
            auth_keys_file=str(data_dir / "keys" / "auth_keys.json"),
        )


@contextmanager
def sole_supervisor(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for this supervisor. Raises CommandFailed when another one has it."""
    descriptor = os.open(_lock_path(data_dir), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _locked_within(LOCK_WAIT_SECONDS, descriptor):
            raise CommandFailed(f"{_already_runs(data_dir)}: stop it with Ctrl-C there, or use another --data")
        _state_path(data_dir).unlink(missing_ok=True)  # a killed supervisor's: with the lock it would be believed
        try:
            yield
        finally:
            _state_path(data_dir).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def write_state(data_dir: Path, state: DevState) -> None:
    """Publish where the parts are, whole or not at all; to this user only, as a Redis of one's own has a password."""
    path = _state_path(data_dir)
    unfinished = path.with_suffix(".tmp")
    unfinished.unlink(missing_ok=True)
    unfinished.touch(0o600)
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    unfinished.replace(path)


def running_state(data_dir: Path) -> DevState | None:
    """What the ``twitter dev`` on this directory published, or None when none runs or it is not ready yet."""
    if not _is_supervised(data_dir):
        return None
    try:
        return msgspec.json.decode(_state_path(data_dir).read_bytes(), type=DevState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _is_supervised(data_dir: Path) -> bool:
    try:
        descriptor = os.open(_lock_path(data_dir), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _locked_within(seconds: float, descriptor: int) -> bool:
    deadline = time.monotonic() + seconds
    while not _locked(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _already_runs(data_dir: Path) -> str:
    state = running_state(data_dir)
    who = f" (process {state.supervisor_pid}, reads at {state.read_url})" if state else ""
    return f"a `twitter dev` already runs on {data_dir}{who}"


def _state_path(data_dir: Path) -> Path:
    return data_dir / "dev.json"


def _lock_path(data_dir: Path) -> Path:
    return data_dir / "dev.lock"
