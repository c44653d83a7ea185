"""Getting a snapshot from the owner."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx

from services.common import faults, snapshot
from services.common.errors import OwnerUnavailable, StorageUnfit
from services.common.events import PROJECTION_VERSION
from services.common.snapshot import Snapshot

CONNECT_SECONDS: Final = 2.0
STALL_SECONDS: Final = 30.0
"""The longest silence: the owner makes the snapshot before it answers."""
TRANSFER_SECONDS: Final = 600.0


class SnapshotSource:
    """The owner's ``/internal/snapshot``."""

    def __init__(self, owner_url: str) -> None:
        timeout = httpx.Timeout(STALL_SECONDS, connect=CONNECT_SECONDS)
        self._url = f"{owner_url.rstrip('/')}/internal/snapshot"
        self._client = httpx.Client(timeout=timeout, trust_env=False)

    def fetch(self, target: Path, *, at_least: int, is_cancelled: Callable[[], bool]) -> Snapshot:
        """Stream a snapshot of at least a position into ``target`` and verify it.

        Raises OwnerUnavailable, and leaves no file, when none came, it did not arrive whole, it is older than asked
        for or made by another version of the projection.
        """
        try:
            position, sha256 = self._download(target, at_least, is_cancelled)
            faults.reach("snapshot:received")
            return snapshot.verify(target, sha256, position)
        except (httpx.HTTPError, StorageUnfit) as error:
            target.unlink(missing_ok=True)
            raise OwnerUnavailable(f"no snapshot from {self._url}: {error!r}") from error
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _download(self, target: Path, at_least: int, is_cancelled: Callable[[], bool]) -> tuple[int, str]:
        """Write the body to ``target``; returns the position and the checksum it was announced with."""
        deadline = time.monotonic() + TRANSFER_SECONDS
        with self._client.stream("GET", self._url) as response:
            response.raise_for_status()
            announced = self._announced(response.headers, at_least)
            with target.open("wb") as file:
                for chunk in response.iter_raw():
                    if is_cancelled() or time.monotonic() > deadline:
                        raise OwnerUnavailable(f"the transfer from {self._url} was given up")
                    file.write(chunk)
        return announced

    def _announced(self, headers: httpx.Headers, at_least: int) -> tuple[int, str]:
        try:
            position, sha256 = int(headers["X-Snapshot-Position"]), headers["X-Snapshot-SHA256"]
            version = int(headers["X-Projection-Version"])
        except (KeyError, ValueError) as error:
            raise OwnerUnavailable(f"{self._url} does not announce a snapshot: is OWNER_URL right?") from error
        if version != PROJECTION_VERSION:
            raise OwnerUnavailable(
                f"the owner's projection has version {version}, this reader has {PROJECTION_VERSION}: "
                "run the same version of both"
            )
        if position < at_least:
            raise OwnerUnavailable(f"the owner's snapshot is at {position}, one of {at_least} or newer is needed")
        return position, sha256
