"""A lost volume and its backup, by the words of docs/operations.md."""

from __future__ import annotations

from pathlib import Path

from services.common.ids import position_from_entry_id
from tests.e2e.documented import blocks, run
from tests.e2e.figures import Figures
from tests.e2e.load import Load, check_nothing_failed
from tests.e2e.release import Release
from tests.e2e.wait import eventually

NOTHING_KEPT = {"LOG_RETENTION_SECONDS": 0, "SNAPSHOT_LEASE_SECONDS": 10}
FIRST_ENTRY = """
import os, redis
print(redis.from_url(os.environ["REDIS_URL"]).xrange("events", count=1)[0][0].decode())
"""
COUNT_TWEETS = """
import sqlite3, sys
with sqlite3.connect("file:/data/twitter.db?mode=ro", uri=True) as database:
    print(database.execute("select count(*) from tweets where user_id = ?", sys.argv[1:]).fetchone()[0])
"""


def test_a_lost_volume_comes_back_from_a_backup(release: Release, url: str, figures: Figures, tmp_path: Path) -> None:
    """Nobody notices: not those who read and write meanwhile. What the log no longer has, the backup brings back."""
    lose, stop, restore, start = blocks("operations.md", "Restore on Kubernetes")
    release.apply("upgrade", {"db-updater.env": NOTHING_KEPT})
    with Load(url) as load:
        backup = release.execute(release.pod("db-updater"), "twitter", "backup")
        assert "/backups/" in backup
        load.go_on()
        eventually(lambda: _first_kept(release) > min(load.acknowledged), 60, lambda: f"not trimmed after {backup}")

        run(lose, release, tmp_path)
        eventually(lambda: "twitter restore" in _said(release), 120, lambda: f"it starts: {_said(release)}")
        for step in (stop, restore):
            run(step, release, tmp_path)
        run(start, release, tmp_path)  # its last command verifies all
        load.go_on()
    check_nothing_failed(load, figures)
    eventually(
        lambda: _tweets_of(release, load.user_id) == len(load.acknowledged),
        describe=lambda: f"the owner has {_tweets_of(release, load.user_id)} of {len(load.acknowledged)}",
    )
    release.apply("upgrade")


def _tweets_of(release: Release, user_id: int) -> int:
    """How many tweets of a user the owner's database has."""
    return int(release.execute(release.pod("db-updater"), "python", "-c", COUNT_TWEETS, str(user_id)))


def _first_kept(release: Release) -> int:
    """The position of the oldest entry in the log."""
    return position_from_entry_id(release.execute(release.pod("db-updater"), "python", "-c", FIRST_ENTRY).strip())


def _said(release: Release) -> str:
    """What the owner's last attempt to start has logged."""
    [pod] = release.pods("db-updater")
    return release.log(pod)
