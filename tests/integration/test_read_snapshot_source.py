"""Whatever the owner's answer is, a reader opens a whole, matching, new enough snapshot or none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from services.common import projection, snapshot
from services.common.database import open_writer
from services.common.errors import OwnerUnavailable
from services.common.events import UserCreated
from services.common.snapshot import Snapshot
from services.read.snapshot_source import SnapshotSource
from tests.support.logbook import chained


@pytest.fixture
def offered(tmp_path: Path) -> Snapshot:
    """A snapshot that holds one user."""
    engine = open_writer(tmp_path / "owner.db", "off")
    with engine.begin() as connection:
        projection.create_tables(connection)
        projection.apply(connection, chained([UserCreated(username="ada")]))
    engine.dispose()
    return snapshot.make(tmp_path / "owner.db", tmp_path / "offered.db")


@contextmanager
def answering(status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    """A server that gives this one answer to everybody; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not to the console."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def announced(offered: Snapshot, **changed: str) -> dict[str, str]:
    """The headers the owner sends with a snapshot, some of them changed."""
    headers = {
        "X-Snapshot-Position": str(offered.position),
        "X-Snapshot-SHA256": offered.sha256,
        "X-Projection-Version": str(offered.projection_version),
        "Content-Length": str(offered.size_bytes),
    }
    return headers | {name.replace("_", "-"): value for name, value in changed.items()}


def fetch(url: str, target: Path, *, at_least: int = 0, is_cancelled: bool = False) -> Snapshot:
    """Fetch once."""
    source = SnapshotSource(url)
    try:
        return source.fetch(target, at_least=at_least, is_cancelled=lambda: is_cancelled)
    finally:
        source.close()


def test_a_whole_snapshot_is_what_the_owner_offered(offered: Snapshot, tmp_path: Path) -> None:
    """Byte for byte, at the position it was announced with."""
    with answering(200, announced(offered), offered.path.read_bytes()) as url:
        received = fetch(url, tmp_path / "received.db", at_least=offered.position)
    assert (received.position, received.sha256) == (offered.position, offered.sha256)
    assert received.path.read_bytes() == offered.path.read_bytes()


@pytest.mark.parametrize(
    ("headers", "kept_bytes", "why"),
    [
        ({"X_Snapshot_SHA256": "0" * 64}, None, "SHA-256"),
        ({"X_Snapshot_Position": "1"}, None, "announced as 1"),
        ({"X_Projection_Version": "2"}, None, "run the same version"),
        ({"X_Snapshot_Position": "many"}, None, "is OWNER_URL right"),
        ({}, 5_000, "peer closed connection"),
        ({"Content_Length": "5000"}, 5_000, "SHA-256"),
    ],
    ids=["damaged", "other position", "other version", "no owner at all", "cut off", "cut off unnoticed"],
)
def test_anything_else_is_refused_and_leaves_no_file(
    offered: Snapshot, tmp_path: Path, headers: dict[str, str], kept_bytes: int | None, why: str
) -> None:
    """The reader tries again later; the message says what was wrong."""
    body = offered.path.read_bytes()[:kept_bytes]
    with answering(200, announced(offered, **headers), body) as url, pytest.raises(OwnerUnavailable, match=why):
        fetch(url, tmp_path / "received.db")
    assert not (tmp_path / "received.db").exists()


def test_a_snapshot_that_is_too_old_is_not_even_transferred(offered: Snapshot, tmp_path: Path) -> None:
    """A reader behind the horizon must not go back."""
    with answering(200, announced(offered), b"") as url, pytest.raises(OwnerUnavailable, match="or newer is needed"):
        fetch(url, tmp_path / "received.db", at_least=offered.position + 1)


def test_an_owner_that_is_unable_or_away_is_unavailable(tmp_path: Path) -> None:
    """503, and then no server at all."""
    with answering(503, {}, b"{}") as url, pytest.raises(OwnerUnavailable, match="503"):
        fetch(url, tmp_path / "received.db")
    with pytest.raises(OwnerUnavailable, match="ConnectError"):
        fetch(url, tmp_path / "received.db")


def test_a_transfer_ends_when_the_reader_stops(offered: Snapshot, tmp_path: Path) -> None:
    """And leaves no half of a file."""
    with answering(200, announced(offered), offered.path.read_bytes()) as url, pytest.raises(OwnerUnavailable):
        fetch(url, tmp_path / "received.db", is_cancelled=True)
    assert not (tmp_path / "received.db").exists()
