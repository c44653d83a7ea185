"""What the read service is told from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.common.settings import AuthKeysFile, DatabaseUrl, MetricsPort, Port, PublicSettings, RedisUrl


class ReadSettings(PublicSettings):
    """The environment of ``python -m services.read``."""

    port: Port = 8000
    metrics_port: MetricsPort = 9100
    read_store: Literal["replica", "shared"] = Field(
        "replica",
        description="Where reads are answered from; replica: a private SQLite file that follows the log; "
        "shared: the owner's database.",
    )
    database_url: DatabaseUrl = Field(
        "sqlite:///./data/twitter.db",
        description="With READ_STORE=shared: the owner's database, a SQLite file of this host or PostgreSQL.",
        repr=False,  # may hold a password
    )
    cache_url: RedisUrl | None = Field(
        None,
        description="With READ_STORE=shared: the Redis for responses that readers share, best one of its own, for one "
        "system alone; by default REDIS_URL.",
        repr=False,
    )
    cache_ttl_seconds: int = Field(
        60, ge=1, description="With READ_STORE=shared: how long a response stays in CACHE_URL."
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
        16 * 1024 * 1024, ge=0, description="Memory for encoded responses, in bytes; 0 caches nothing."
    )
    min_position_wait_seconds: float = Field(
        1.0, ge=0, le=30, description="How long a read with X-Min-Position waits for it before it answers 503."
    )
