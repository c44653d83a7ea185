"""Snapshots of a real database: consistent beside a writer, and refused when they are not what was said."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.common import events, projection, snapshot
from services.common.database import open_reader, open_writer
from services.common.errors import StorageUnfit
from services.common.events import Event, TweetCreated, UserCreated
from services.common.log.entry import Entry


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Engine]:
    """A database that holds an empty projection, open as its owner has it."""
    engine = open_writer(tmp_path / "twitter.db", "full")
    with engine.begin() as connection:
        projection.create_tables(connection)
    yield engine
    engine.dispose()


def apply(engine: Engine, position: int, *new_events: Event) -> None:
    """Apply events at consecutive positions from this one on."""
    entries = [
        Entry(at, at - 1, event.name, event.version, events.encode(event))
        for at, event in enumerate(new_events, start=position)
    ]
    with engine.begin() as connection:
        projection.apply(connection, entries)


def hashes(path: Path) -> dict[str, str]:
    """The table hashes of a database file."""
    engine = open_reader(path)
    try:
        with engine.begin() as connection:
            return projection.table_hashes(connection)
    finally:
        engine.dispose()


def test_snapshot_is_an_equal_copy_with_its_position(tmp_path: Path, writer: Engine) -> None:
    """The copy has the same tables, its position comes from itself, and a receiver can verify it."""
    apply(writer, 1, UserCreated(username="ada"), TweetCreated(user_id=1, content="hello"))
    made = snapshot.make(tmp_path / "twitter.db", tmp_path / "snapshots" / "one.db")
    assert (made.position, made.projection_version) == (2, 1)
    assert made.size_bytes == made.path.stat().st_size
    assert hashes(made.path) == hashes(tmp_path / "twitter.db")
    assert snapshot.verify(made.path, made.sha256, made.position) == made


def test_snapshot_leaves_only_its_file(tmp_path: Path, writer: Engine) -> None:
    """No journal, no temporary name; what a crash left under the temporary name is replaced."""
    apply(writer, 1, UserCreated(username="ada"))
    folder = tmp_path / "snapshots"
    folder.mkdir()
    (folder / "one.db.tmp").write_bytes(b"left by a crash")
    snapshot.make(tmp_path / "twitter.db", folder / "one.db")
    assert [path.name for path in folder.iterdir()] == ["one.db"]


def test_snapshot_beside_a_writer_holds_one_position(tmp_path: Path, writer: Engine) -> None:
    """While batches are committed each copy holds exactly the rows up to its position, and finishes."""
    apply(writer, 1, UserCreated(username="ada"))
    done = threading.Event()
    first_batch_applied = threading.Event()

    def write() -> None:
        position = 2
        while not done.is_set():
            apply(writer, position, *(TweetCreated(user_id=1, content="hello") for _ in range(10)))
            position += 10
            first_batch_applied.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert first_batch_applied.wait(10)
    made = [snapshot.make(tmp_path / "twitter.db", tmp_path / f"{number}.db") for number in range(10)]
    done.set()
    thread.join()
    for copy in made:
        engine = open_reader(copy.path)
        with engine.begin() as connection:
            assert connection.execute(text("SELECT count(*), max(id) FROM tweets")).one()[:] == (
                copy.position - 1,
                copy.position,
            )
        engine.dispose()


def test_file_that_did_not_arrive_whole_is_refused(tmp_path: Path, writer: Engine) -> None:
    """One byte less and the checksum is another."""
    apply(writer, 1, UserCreated(username="ada"))
    made = snapshot.make(tmp_path / "twitter.db", tmp_path / "one.db")
    made.path.write_bytes(made.path.read_bytes()[:-1])
    with pytest.raises(StorageUnfit, match="did not arrive whole"):
        snapshot.verify(made.path, made.sha256, made.position)


def test_snapshot_of_another_position_is_refused(tmp_path: Path, writer: Engine) -> None:
    """The position that counts is the one in the file, not the one in a header."""
    apply(writer, 1, UserCreated(username="ada"))
    made = snapshot.make(tmp_path / "twitter.db", tmp_path / "one.db")
    with pytest.raises(StorageUnfit, match="holds position 1, it was announced as 2"):
        snapshot.verify(made.path, made.sha256, 2)


def test_snapshot_of_another_projection_version_is_refused(tmp_path: Path, writer: Engine) -> None:
    """Copies carry their version and are never opened by another, neither when made nor when received."""
    apply(writer, 1, UserCreated(username="ada"))
    with writer.begin() as connection:
        connection.execute(text("UPDATE applied SET projection_version = 99"))
    with pytest.raises(StorageUnfit, match="version 99"):
        snapshot.make(tmp_path / "twitter.db", tmp_path / "one.db")


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    """An error page saved as a snapshot is said to be unreadable."""
    path = tmp_path / "one.db"
    path.write_bytes(b"<html>502 Bad Gateway</html>" * 100)
    sha256 = snapshot.sha256_of(path)
    with pytest.raises(StorageUnfit, match="cannot be read as a database"):
        snapshot.verify(path, sha256, 1)
