"""What the owner counts. The alarms stand on these, not on what Redis says of its consumer groups."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.db_updater.reports import RecoveryReports

BATCH_ENTRIES_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
BATCH_SECONDS_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SNAPSHOT_SECONDS_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)

BACKUP_SECONDS_BUCKETS: Final = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)


class OwnerMetrics:
    """One set for each registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.applied_position = Gauge("applied_position", "Position of the last entry applied.", registry=registry)
        self.lag_entries = Gauge("lag_entries", "Entries in the log that are not applied yet.", registry=registry)
        self.lag_seconds = Gauge("lag_seconds", "Age of the oldest entry that is not applied yet.", registry=registry)
        self.is_applying = Gauge("applying", "1 while entries are applied as they come, else 0.", registry=registry)
        self.faults_total = Counter(
            "applying_faults_total", "Times that applying had to pause or stop.", ["reason"], registry=registry
        )
        self.applied_entries_total = Counter(
            "applied_entries_total", "Entries applied by this process.", ["type"], registry=registry
        )
        self.dead_letters = Gauge("dead_letters", "Entries refused for good, in the database.", registry=registry)
        self.recoveries_total = Counter(
            "recoveries_total", "Epochs started because the log had lost entries.", registry=registry
        )
        self.discarded_entries = Gauge(
            "discarded_entries",
            "Acknowledged entries that recoveries discarded; saved on the volume.",
            registry=registry,
        )
        self.missing_entries = Gauge(
            "missing_entries", "Acknowledged entries that a restore has given up; nothing is left.", registry=registry
        )
        self.recovery_timestamp_seconds = Gauge(
            "recovery_timestamp_seconds", "When the log was last set right after a loss; 0: never.", registry=registry
        )
        self.batch_entries = Histogram(
            "batch_entries", "Entries in a batch.", buckets=BATCH_ENTRIES_BUCKETS, registry=registry
        )
        self.batch_seconds = Histogram(
            "batch_seconds",
            "Time from having read a batch to having applied and archived it.",
            buckets=BATCH_SECONDS_BUCKETS,
            registry=registry,
        )
        self.archive_bytes = Gauge("archive_bytes", "Size of the archive.", registry=registry)
        self.trimmed_entries_total = Counter(
            "trimmed_entries_total", "Entries trimmed from the log.", registry=registry
        )
        self.snapshot_seconds = Histogram(
            "snapshot_seconds", "Time to make a snapshot.", buckets=SNAPSHOT_SECONDS_BUCKETS, registry=registry
        )
        self.backup_interval_seconds = Gauge(
            "backup_interval_seconds", "How often a backup is due; 0: none are made.", registry=registry
        )
        self.backup_success_timestamp_seconds = Gauge(
            "backup_success_timestamp_seconds",
            "When the newest backup was made; 0 without.",
            registry=registry,
        )
        self.backup_seconds = Histogram(
            "backup_seconds", "Time to make and verify a backup.", buckets=BACKUP_SECONDS_BUCKETS, registry=registry
        )
        self.backup_bytes = Gauge("backup_bytes", "Size of the newest backup.", registry=registry)
        self.backup_failures_total = Counter("backup_failures_total", "Backups that failed.", registry=registry)
        self.snapshots_served_total = Counter("snapshots_served_total", "Snapshots handed out.", registry=registry)
        self._volume_bytes = Gauge("volume_bytes", "Size of the owner's volume.", registry=registry)
        self._volume_free_bytes = Gauge("volume_free_bytes", "Free room on the owner's volume.", registry=registry)

    def watch_volume(self, directory: Path) -> None:
        """Show how much room there is where this directory is, whenever somebody asks."""
        self._volume_bytes.set_function(lambda: shutil.disk_usage(directory).total)
        self._volume_free_bytes.set_function(lambda: shutil.disk_usage(directory).free)

    def show_recoveries(self, reports: RecoveryReports) -> None:
        """Show what all recoveries could not keep, and when the last one was."""
        self.discarded_entries.set(reports.discarded_entries)
        self.missing_entries.set(reports.missing_entries)
        self.recovery_timestamp_seconds.set(reports.last.unix_ms / 1000 if reports.last else 0)
