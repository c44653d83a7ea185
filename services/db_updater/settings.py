"""What the owner is told from outside."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.common.database import Database, database_of
from services.common.settings import DatabaseUrl, MetricsPort, Port, ServiceSettings


class OwnerSettings(ServiceSettings):
    """The settings of the db-updater; see ServiceSettings for those every service has."""

    port: Port = 8002
    metrics_port: MetricsPort = 9102
    database_url: DatabaseUrl = Field(
        "sqlite:///./data/twitter.db",
        description="The SQLite file, as sqlite:/// URL or as a bare path; or postgresql+psycopg://user@host/database.",
        repr=False,  # may hold a password
    )
    volume_dir: Path | None = Field(
        None, description="Where the owner's other files are; by default beside the SQLite file, `data` for PostgreSQL."
    )
    log_retention_seconds: int = Field(
        3600, ge=0, description="How long entries stay in the log after they were archived, for readers that lag."
    )
    snapshot_lease_seconds: int = Field(
        300, ge=10, description="How long the log is kept for a reader that has been given a snapshot."
    )
    snapshot_dir: Path | None = Field(
        None, description="Where snapshots are made; by default `snapshots` in VOLUME_DIR."
    )
    archive_dir: Path | None = Field(None, description="Where the archive is; by default `archive` in VOLUME_DIR.")
    backup_dir: Path | None = Field(
        None, description="Where backups are made, on another volume than the database; empty: none are."
    )
    backup_interval_seconds: int = Field(3600, ge=1, description="How often a backup is made.")
    backup_keep: int = Field(24, ge=1, description="How many backups are kept.")

    @property
    def database(self) -> Database:
        """What DATABASE_URL names."""
        return database_of(self.database_url)

    @property
    def volume_directory(self) -> Path:
        """VOLUME_DIR or its default."""
        database = self.database
        return self.volume_dir or (database.parent if isinstance(database, Path) else Path("data"))

    @property
    def snapshot_directory(self) -> Path:
        """SNAPSHOT_DIR or its default."""
        return self.snapshot_dir or self.volume_directory / "snapshots"

    @property
    def archive_directory(self) -> Path:
        """ARCHIVE_DIR or its default."""
        return self.archive_dir or self.volume_directory / "archive"
