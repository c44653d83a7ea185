"""What the read service is told from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.common.settings import AuthKeysFile, MetricsPort, Port, PublicSettings


class ReadSettings(PublicSettings):
    """The environment of ``python -m services.read``."""

    port: Port = 8000
    metrics_port: MetricsPort = 9100
    read_store: Literal["replica"] = Field(
        "replica", description="Where reads are answered from; replica: a private SQLite file that follows the log."
    )
    owner_url: str = Field(
        "http://localhost:8002", description="The db-updater, asked for a snapshot at start and when too far behind."
    )
    replica_dir: Path = Field(
        Path("./data/replica"),
        description="Directory for replica files; each process makes one of its own in it and removes dead ones'.",
    )
    auth_keys_file: AuthKeysFile = None
    cache_bytes_max: int = Field(
        64 * 1024 * 1024, ge=0, description="Memory for encoded responses, in bytes; 0 caches nothing."
    )
    min_position_wait_seconds: float = Field(
        1.0, ge=0, le=30, description="How long a read with X-Min-Position waits for it before it answers 503."
    )
