"""The owner's volume is lost: a backup, the log and `twitter restore` bring everything back, or say what is missing."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from services.common import backup
from services.common.log.client import EventLog
from tests.support.backed_up import BackedUp
from tests.support.backups import owners_files
from tests.support.databases import USES_POSTGRESQL
from tests.support.owner import database_path, reported, table_hashes
from tests.support.process import REPOSITORY, Program
from tests.support.wait import eventually

pytestmark = [pytest.mark.timeout(150), pytest.mark.skipif(USES_POSTGRESQL, reason="backups are of SQLite")]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[BackedUp]:
    """A system with a backup directory; a key signs tokens."""
    with BackedUp(tmp_path / "system") as running:
        yield running


def test_lost_volume_is_restored_from_a_backup_and_the_log(system: BackedUp, tmp_path: Path) -> None:
    """Nothing acknowledged is lost, not even what came after the backup; old tokens and log-ins are good."""
    ada = system.sign_up("ada")
    system.write_some(ada["id"])
    system.back_up()
    bob = system.sign_up("bob")
    tweets = system.write_some(bob["id"])
    held = table_hashes(database_path(system.owner_directory))
    with closing(EventLog(system.redis.url)) as log:
        log.trim(backup.find_backup(system.backups).manifest.position, log.status().fence)
    system.lose_volume()

    system.owner.start()
    assert system.owner.wait() == 1
    newest = backup.find_backup(system.backups).path
    assert f"run `twitter restore --from {newest}`" in system.owner.log
    printed = system.follow_runbook("volume-lost")
    assert f"restored up to position {backup.find_backup(newest).manifest.position}," in printed
    system.wait_until_applied(tweets[-1])
    assert table_hashes(database_path(system.owner_directory)) == held
    assert system.owner.http.get("/internal/position").json()["epoch"] == 1
    assert system.may_log_in("ada")
    assert system.may_log_in("bob")
    me = system.read.get("/users/me", headers={"Authorization": f"Bearer {ada['access_token']}"})
    assert me.json()["email"] == "ada@example.com"
    system.write_some(ada["id"])
    system.check_everybody_agrees(tmp_path / "rebuilt.db")


def test_lost_volume_and_lost_redis_go_on_from_the_backup(system: BackedUp, tmp_path: Path) -> None:
    """All that is left is the backup: names, e-mails and log-ins are whole again, and the loss is reported."""
    ada = system.sign_up("ada")
    kept = system.write_some(ada["id"])[-1]
    system.back_up()
    lost = system.write_some(ada["id"], 1)[0]
    system.lose_volume()
    system.redis.kill()
    system.redis.come_back_with(None)
    system.follow_runbook("volume-lost")
    after = system.write_some(ada["id"], 1)[0]
    assert after > lost
    (summary,) = reported(system.owner_directory)
    assert (summary["base_position"], summary["missing_entries"]) == (kept, 0)
    assert summary["reported_position"] >= lost
    assert system.read.get(f"/tweets/{lost}").status_code == 404
    assert system.may_log_in("ada")
    taken = system.write.post("/users", json={"username": "ADA", "email": "other@example.com"})
    assert taken.json()["code"] == "username_taken"
    system.check_everybody_agrees(tmp_path / "rebuilt.db")


def test_entries_between_backup_and_log_are_counted_and_given_up_only_when_told(
    system: BackedUp, tmp_path: Path
) -> None:
    """Neither restore nor owner goes on by itself; told so, what is gone is counted, what is left is saved."""
    ada = system.sign_up("ada")
    kept = system.write_some(ada["id"])[-1]
    made = system.back_up()
    gone = system.write_some(ada["id"], 5)
    with closing(EventLog(system.redis.url)) as log:
        log.trim(gone[-1], log.status().fence)
    discarded = system.write_some(ada["id"], 2)
    system.lose_volume()

    refused = system.twitter("restore", "--from", str(made))
    assert refused.exit_code == 1
    assert "5 entries after backup" in refused.stderr
    assert "--accept-loss" in refused.stderr
    assert not database_path(system.owner_directory).exists()
    assert "5 entries after that are given up" in system.follow_runbook("log-too-short")
    after = system.write_some(ada["id"], 1)[0]
    *saved, summary = reported(system.owner_directory)
    assert [entry["position"] for entry in saved] == discarded
    assert (summary["base_position"], summary["missing_entries"], summary["discarded_entries"]) == (kept, 5, 2)
    assert summary["reason"].startswith("restored from a backup that ends at")  # it was halted before the owner began
    assert "missing_entries 5.0" in system.owner.metrics()
    statuses = {id_: system.read.get(f"/tweets/{id_}").status_code for id_ in (kept, *gone, *discarded, after)}
    assert [id_ for id_, status in statuses.items() if status == 200] == [kept, after]
    system.check_everybody_agrees(tmp_path / "rebuilt.db")


def test_an_owner_never_gives_up_entries_by_itself(system: BackedUp) -> None:
    """Files of a backup that somebody copied by hand, over a log that goes on later: it waits for a decision."""
    ada = system.sign_up("ada")
    system.write_some(ada["id"])
    made = system.back_up()
    gone = system.write_some(ada["id"], 5)
    with closing(EventLog(system.redis.url)) as log:
        log.trim(gone[-1], log.status().fence)
        system.lose_volume()
        system.owner_directory.mkdir()
        shutil.copy(made / "twitter.db", database_path(system.owner_directory))
        shutil.copytree(made / "archive", system.owner_directory / "archive")
        log.halt("somebody halted it", 0)
        system.owner.start()
        eventually(lambda: "applying_stopped" in system.owner.log, describe=lambda: system.owner.log_tail)
        assert "twitter restore --from" in system.owner.http.get("/healthz/ready").json()["detail"]
        assert log.status().epoch == 1


def test_what_the_owner_has_is_moved_aside_only_when_told(system: BackedUp) -> None:
    """Not while it runs, and not without --replace; the files before are kept."""
    ada = system.sign_up("ada")
    system.write_some(ada["id"])
    made = system.back_up()
    running = system.twitter("restore", "--from", str(made), "--replace")
    assert (running.exit_code, "stop the db-updater first" in running.stderr) == (1, True)
    system.owner.terminate()
    refused = system.twitter("restore", "--from", str(made))
    assert (refused.exit_code, "--replace moves it aside" in refused.stderr) == (1, True)
    restored = system.result_of("restore", "--from", str(made), "--replace")
    assert (Path(restored["aside"]) / "twitter.db").exists()
    system.owner.restart()
    system.write_some(ada["id"])


def test_a_backup_of_a_stopped_owner_and_a_snapshot_of_a_running_one(system: BackedUp, tmp_path: Path) -> None:
    """--to needs the owner's lock; a snapshot holds no private data and overwrites nothing."""
    ada = system.sign_up("ada")
    system.write_some(ada["id"])
    taken = system.result_of("snapshot", str(tmp_path / "taken.db"))
    assert table_hashes(tmp_path / "taken.db") == table_hashes(database_path(system.owner_directory))
    assert b"ada@example.com" not in (tmp_path / "taken.db").read_bytes()
    assert system.twitter("snapshot", str(tmp_path / "taken.db")).exit_code == 2
    assert "stop the db-updater first" in system.twitter("backup", "--to", str(tmp_path / "other")).stderr
    system.owner.terminate()
    made = system.result_of("backup", "--to", str(tmp_path / "other"))
    assert made["position"] == taken["position"]
    assert system.twitter("backup").exit_code == 3
    restored = system.result_of("restore", "--from", str(tmp_path / "other"), "--replace")
    assert restored["position"] == made["position"]
    system.owner.restart()


KILLED_BACKUP = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from services.common import backup
@contextmanager
def killed():
    os.kill(os.getpid(), signal.SIGKILL)
    yield
database = Path(sys.argv[1])
backup.make(backup.OwnersFiles(database, database.parent, Path(sys.argv[2])), Path(sys.argv[3]), killed())
"""

KILLED_RESTORE = """
import os, signal, sys
from pathlib import Path
from services.cli import restoring
from services.common import backup
moved = Path.rename
def rename(source, target):
    moved(source, target)
    if Path(target) == Path(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = rename
made = backup.find_backup(Path(sys.argv[3]))
files = backup.OwnersFiles(Path(sys.argv[1]).with_name("twitter.db"), Path(sys.argv[1]).parent, Path(sys.argv[2]))
restoring.put_in_place(made, files, backup.Restored("one", made.manifest.position, False), lambda _: None)
"""


def killed(script: str, directory: Path, *arguments: Path) -> None:
    """Run a script that ends itself with SIGKILL."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    program = Program("killed", command, directory, {"PYTHONPATH": str(REPOSITORY)})
    program.start()
    assert program.wait() == -signal.SIGKILL, program.log_tail


def test_a_backup_that_was_killed_is_never_seen(system: BackedUp, tmp_path: Path) -> None:
    """What it left has no name of a backup, and the next one clears it away."""
    ada = system.sign_up("ada")
    system.write_some(ada["id"])
    files = owners_files(system.owner_directory)
    killed(KILLED_BACKUP, tmp_path, files.database, files.archive, system.backups)
    before = {path.name for path in system.backups.iterdir()}
    assert sum(name.endswith(".partial") for name in before) == 1
    made = system.back_up()
    assert backup.find_backup(system.backups).path == made
    assert not list(system.backups.glob("*.partial"))


@pytest.mark.parametrize("last", ["twitter.private.db", "twitter.db"])
def test_a_restore_that_was_killed_keeps_the_owner_from_starting(system: BackedUp, tmp_path: Path, last: str) -> None:
    """Half of the files are in place: the owner says so, and the same command again makes it whole."""
    ada = system.sign_up("ada")
    tweets = system.write_some(ada["id"])
    system.back_up()
    held = table_hashes(database_path(system.owner_directory))
    system.lose_volume()
    system.owner_directory.mkdir()
    files = owners_files(system.owner_directory)
    killed(KILLED_RESTORE, tmp_path, system.owner_directory / last, files.archive, system.backups)
    system.owner.start()
    assert system.owner.wait() == 1
    assert "was interrupted: run `twitter restore` again" in system.owner.log
    system.result_of("restore", "--from", str(system.backups))
    system.owner.restart()
    system.wait_until_applied(tweets[-1])
    assert table_hashes(database_path(system.owner_directory)) == held
    assert system.may_log_in("ada")
