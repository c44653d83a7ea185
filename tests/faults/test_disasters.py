"""Disasters on real processes, met by the runbooks of docs/operations.md: what is lost, and what the system says.

Those of lost volumes and old backups are in test_restore.py, Redis with less than it had in test_recovery_system.py,
failovers in test_failover.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.database import open_reader
from tests.support import runbook
from tests.support.backed_up import BackedUp
from tests.support.databases import USES_POSTGRESQL
from tests.support.owner import archived, database_path, reported, table_hashes
from tests.support.process import ServiceProcess
from tests.support.wait import eventually

pytestmark = [pytest.mark.timeout(150), pytest.mark.skipif(USES_POSTGRESQL, reason="the files are SQLite's")]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[BackedUp]:
    """A system with a backup directory."""
    with BackedUp(tmp_path / "system") as running:
        yield running


def damage_table(database: Path, table: str) -> None:
    """Overwrite the first page of a table, which nobody has open."""
    engine = open_reader(database)
    with engine.begin() as connection:
        query = f"SELECT rootpage FROM sqlite_master WHERE name = '{table}'"
        root = connection.exec_driver_sql(query).scalar_one()
        page_bytes = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    engine.dispose()
    with database.open("r+b") as file:
        file.seek((root - 1) * page_bytes)
        file.write(b"\xff" * page_bytes)


def newest_file(system: BackedUp) -> Path:
    """The append-only file that Redis writes."""
    (path,) = (system.redis.directory / "appendonlydir").glob("*.incr.aof")
    return path


def test_every_runbook_is_run_by_a_test() -> None:
    """Those that tests follow are those of the page."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert runbook.runbooks()
    assert [name for name in runbook.runbooks() if f'follow_runbook("{name}")' not in tests] == []


def test_a_damaged_database_of_the_owner_is_rebuilt(system: BackedUp, tmp_path: Path) -> None:
    """Lost is nothing: archive and log have it. The owner ends when it meets the damage, and says what to run."""
    ada = system.sign_up("ada")
    system.write_some(ada["id"])
    held = table_hashes(database_path(system.owner_directory))
    system.owner.terminate()
    damage_table(database_path(system.owner_directory), "tweets")
    missed = system.create_tweet(ada["id"], "while the owner was away").json()["id"]
    system.owner.start()
    assert system.owner.wait() == 1
    assert "is damaged" in system.owner.log
    assert "run `twitter rebuild --replace`" in system.owner.log
    system.follow_runbook("database-damaged")
    system.wait_until_applied(missed)
    assert system.read.get(f"/tweets/{missed}").status_code == 200
    assert system.may_log_in("ada")
    hashes = table_hashes(database_path(system.owner_directory))
    assert {table for table in held if held[table] != hashes[table]} == {"tweets"}
    assert not reported(system.owner_directory)
    system.check_everybody_agrees(tmp_path / "rebuilt.db")


def test_a_damaged_database_is_not_handed_on(system: BackedUp) -> None:
    """An owner that has nothing to apply meets the damage when a reader asks for a copy: it gives none, and ends."""
    ada = system.sign_up("ada")
    system.write_some(ada["id"])
    system.owner.terminate()
    damage_table(database_path(system.owner_directory), "tweets")
    system.owner.restart()
    late = system.new_reader("late")
    system.readers.append(late)
    late.start()
    assert system.owner.wait() == 1
    assert "run `twitter rebuild --replace`" in system.owner.log
    assert not late.is_ready


def test_a_damaged_copy_of_a_reader_is_replaced_at_its_next_start(system: BackedUp) -> None:
    """Lost is nothing. It ends instead of answering wrongly; the supervisor that every reader has starts it again."""
    ada = system.sign_up("ada")
    tweets = system.write_some(ada["id"])
    reader = system.readers[0]
    (replica,) = reader.directory.glob("replica/reader-*/replica-*.db")
    reader.http.get("/")
    with replica.open("r+b") as file:  # all but the header, in the file and in what is not yet in it
        file.seek(4096)
        file.write(b"\xff" * max(replica.stat().st_size - 4096, 4096))
    wal = replica.with_name(replica.name + "-wal")
    wal.write_bytes(b"\xff" * wal.stat().st_size)
    answer = eventually(lambda: _answer(reader, f"/users/{ada['id']}/tweets?limit=2"))
    assert answer >= 500
    assert reader.wait() == 1
    assert "the database is damaged" in reader.log
    reader.start()
    reader.wait_ready()
    assert [tweet["id"] for tweet in system.read.get(f"/users/{ada['id']}/tweets").json()] == tweets[::-1]


def _answer(reader: ServiceProcess, path: str) -> int:
    return int(reader.http.get(path).status_code)


def test_a_torn_tail_of_redis_file_is_cut_off(system: BackedUp, tmp_path: Path) -> None:
    """Lost is nothing: nobody was told of an entry that is not whole on disk. No recovery, and no other epoch."""
    ada = system.sign_up("ada")
    system.owner.terminate()
    missed = system.create_tweet(ada["id"], "acknowledged").json()["id"]
    system.redis.kill()
    with newest_file(system).open("ab") as file:
        file.write(b"*3\r\n$4\r\nXADD\r\n$6\r\nevents\r\n$30\r\n17")
    system.redis.start()
    assert "runcat" in system.redis.log.lower()
    system.owner.restart()
    system.wait_until_applied(missed)
    after = eventually(lambda: _created(system, ada["id"]))
    system.wait_until_applied(after)
    assert not reported(system.owner_directory)
    system.check_everybody_agrees(tmp_path / "rebuilt.db")


def test_a_damaged_file_of_redis_is_cut_off_and_the_owner_adds_what_it_had_applied(
    system: BackedUp, tmp_path: Path
) -> None:
    """Lost is what the owner had not applied, and that is reported; Redis does not start before somebody has acted."""
    ada = system.sign_up("ada")
    kept = system.write_some(ada["id"])
    damage_at = newest_file(system).stat().st_size
    applied = system.write_some(ada["id"])
    system.owner.terminate()
    lost = system.create_tweet(ada["id"], "only in Redis").json()["id"]
    system.readers[0].kill()  # it has seen the tweet, and would say so; the writer does
    system.redis.kill()
    with newest_file(system).open("r+b") as file:
        file.seek(damage_at)
        file.write(b"\xff" * 40)
    with pytest.raises(AssertionError, match="Bad file format"):
        system.redis.start()
    system.follow_runbook("redis-file-damaged")
    system.owner.restart()
    system.readers[0].restart()
    after = eventually(lambda: _created(system, ada["id"]))
    assert after > lost
    system.wait_until_applied(after)
    statuses = {id_: system.read.get(f"/tweets/{id_}").status_code for id_ in (*kept, *applied, lost, after)}
    assert [id_ for id_, status in statuses.items() if status != 200] == [lost]
    (summary,) = reported(system.owner_directory)
    assert (summary["base_position"], summary["log_head"]) == (applied[-1], kept[-1])
    assert summary["reported_position"] >= lost
    assert "recoveries_total 1.0" in system.owner.metrics()
    assert system.may_log_in("ada")
    system.check_everybody_agrees(tmp_path / "rebuilt.db")


def _created(system: BackedUp, user_id: int) -> int:
    """A new tweet's id, 0 while nothing can be written."""
    answer = system.write.post("/tweets", json={"user_id": user_id, "content": "after"})
    return int(answer.json()["id"]) if answer.status_code == 201 else 0


def test_of_two_owners_on_two_volumes_only_the_later_one_goes_on(system: BackedUp, tmp_path: Path) -> None:
    """HAZARDS 15. The first is cut off (paused), a second starts elsewhere; back again, the first changes nothing."""
    ada = system.sign_up("ada")
    before = system.write_some(ada["id"])[-1]
    first = system.owner
    first.pause()
    second = ServiceProcess(
        "second",
        "services.db_updater",
        tmp_path / "second",
        {**first.environment, "DATABASE_URL": "twitter.db", "VOLUME_DIR": "", "BACKUP_DIR": ""},
    )
    second.environment |= {"PORT": str(second.port), "METRICS_PORT": str(second.metrics_port)}
    try:
        second.start()
        second.wait_ready()
        after = system.create_tweet(ada["id"], "for the second").json()["id"]
        eventually(lambda: second.http.get("/internal/position").json()["position"] >= after)
        first.resume()
        assert first.wait() == 1
        assert "another owner has" in first.log
        assert archived(system.owner_directory)[-1].position == before
        assert second.is_ready
        second.terminate()
        first.restart()  # who started last
        system.wait_until_applied(after)
        system.check_everybody_agrees(tmp_path / "rebuilt.db")
        assert table_hashes(tmp_path / "second" / "twitter.db") == table_hashes(database_path(system.owner_directory))
        assert not reported(system.owner_directory)
    finally:
        second.close()
