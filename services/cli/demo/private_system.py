"""A whole system of the demo's own: on free ports and on data that goes away, whatever the environment names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from services.cli.dev.background import background_system
from services.cli.dev.state import DevState

# What could lead the private system to somebody's real data.
FOREIGN: Final = (
    "REDIS_URL", "CACHE_URL", "DATABASE_URL", "READ_SERVICE_URL", "WRITE_SERVICE_URL", "OWNER_URL", "DATA_DIR",
    "VOLUME_DIR", "ARCHIVE_DIR", "SNAPSHOT_DIR", "BACKUP_DIR", "REPLICA_DIR", "EMAIL_HASH_KEY", "AUTH_REQUIRED",
    "AUTH_KEYS_FILE",
)  # fmt: skip


@contextmanager
def private_system(data_dir: Path) -> Iterator[DevState]:
    """Run a system on ``data_dir`` for as long as the context lasts. Raises CommandFailed when it does not start."""
    environment = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    with background_system(data_dir, data_dir / "dev.log", environment) as state:
        yield state
