"""What the owner is told from outside."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.common.settings import DatabaseUrl, MetricsPort, Port, ServiceSettings, sqlite_path


class OwnerSettings(ServiceSettings):
    """The settings of the db-updater; see ServiceSettings for those every service has."""

    port: Port = 8002
    metrics_port: MetricsPort = 9102
    database_url: DatabaseUrl = Field(
        "sqlite:///./data/twitter.db", description="The SQLite file, as sqlite:/// URL or as a bare path."
    )
    log_retention_seconds: int = Field(
        3600, ge=0, description="How long entries stay in the log after they were archived, for readers that lag."
    )
    snapshot_lease_seconds: int = Field(
        300, ge=10, description="How long the log is kept for a reader that has been given a snapshot."
    )
    snapshot_dir: Path | None = Field(
        None, description="Where snapshots are made; by default `snapshots` beside the database."
    )
    archive_dir: Path | None = Field(
        None, description="Where the archive is; by default `archive` beside the database."
    )

    @property
    def database_path(self) -> Path:
        """The file that DATABASE_URL names."""
        return sqlite_path(self.database_url)

    @property
    def snapshot_directory(self) -> Path:
        """SNAPSHOT_DIR or its default."""
        return self.snapshot_dir or self.database_path.parent / "snapshots"

    @property
    def archive_directory(self) -> Path:
        """ARCHIVE_DIR or its default."""
        return self.archive_dir or self.database_path.parent / "archive"
