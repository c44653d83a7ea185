"""The owner's internal port as the commands use it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import httpx
import msgspec

from services.cli.errors import CommandFailed
from services.common import snapshot
from services.common.errors import OwnerUnavailable
from services.common.snapshot import Snapshot

CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 60.0  # it makes the snapshot before it answers
BACKUP_SECONDS: Final = 3600.0  # it makes and verifies the backup before it answers
FRESH_SECONDS_MAX: Final = 30.0
POLL_SECONDS: Final = 0.5


class OwnerPosition(msgspec.Struct, frozen=True):
    """Which prefix of the log the owner holds; ``entries`` counts all it has ever applied."""

    position: int
    epoch: int
    entries: int
    archived_position: int
    projection_version: int


def owner_position(owner_url: str) -> OwnerPosition:
    """Ask the owner how far it is. Raises OwnerUnavailable."""
    try:
        answer = httpx.get(f"{owner_url}/internal/position", timeout=CONNECT_SECONDS, trust_env=False)
        return msgspec.json.decode(answer.raise_for_status().content, type=OwnerPosition)
    except (httpx.HTTPError, msgspec.DecodeError) as error:
        raise OwnerUnavailable(f"the db-updater at {owner_url} does not answer ({_name(error)})") from error


class BackupMade(msgspec.Struct, frozen=True):
    """A backup that the owner, or this command, has made and verified."""

    path: str
    position: int
    epoch: int
    entries: int
    size_bytes: int
    made_at: str


def request_backup(owner_url: str) -> BackupMade:
    """Have the owner make a backup in its BACKUP_DIR. Raises OwnerUnavailable, or CommandFailed when it makes none."""
    timeout = httpx.Timeout(BACKUP_SECONDS, connect=CONNECT_SECONDS)
    try:
        answer = httpx.post(f"{owner_url}/internal/backup", timeout=timeout, trust_env=False)
        if answer.is_error:
            detail = msgspec.json.decode(answer.content)["detail"]
            raise CommandFailed(f"the db-updater at {owner_url} made no backup: {detail}")
        return msgspec.json.decode(answer.content, type=BackupMade)
    except (httpx.HTTPError, msgspec.DecodeError, KeyError, TypeError) as error:
        raise OwnerUnavailable(f"the db-updater at {owner_url} does not answer ({_name(error)})") from error


def fetch_snapshot(owner_url: str, target: Path) -> Snapshot:
    """Fetch and verify a snapshot of at least the position that the owner has applied now.

    The owner hands out the same one for some seconds, so this asks until one is new enough. Raises OwnerUnavailable,
    or StorageUnfit when it did not arrive whole.
    """
    at_least = owner_position(owner_url).position
    deadline = time.monotonic() + FRESH_SECONDS_MAX
    while (announced := _download(f"{owner_url}/internal/snapshot", target, at_least)) is None:
        if time.monotonic() > deadline:
            raise OwnerUnavailable(f"the db-updater at {owner_url} offers only snapshots from before {at_least}")
        time.sleep(POLL_SECONDS)
    return snapshot.verify(target, *announced)


def _download(url: str, target: Path, at_least: int) -> tuple[str, int] | None:
    """The checksum and position announced with the file that is in ``target`` now; None for one that is too old."""
    timeout = httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
    try:
        with httpx.stream("GET", url, timeout=timeout, trust_env=False) as answer:
            answer.raise_for_status()
            sha256, position = answer.headers["X-Snapshot-SHA256"], int(answer.headers["X-Snapshot-Position"])
            if position < at_least:
                return None
            with target.open("wb") as file:
                for chunk in answer.iter_raw():
                    file.write(chunk)
            return sha256, position
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise OwnerUnavailable(f"no snapshot from {url} ({_name(error)})") from error


def _name(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
