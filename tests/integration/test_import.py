"""An import against a server that fails in every way a network can, and is killed at any moment."""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.cli.errors import CommandFailed
from services.cli.importing.api import Api
from services.cli.importing.importer import Importer
from services.cli.importing.journal import Journal
from services.cli.importing.rows import Inputs, read_rows


@dataclass
class FakeTwitter:
    """Both services in one, in memory. ``faults`` says for a tweet's text what goes wrong with it, each once."""

    users: dict[str, int] = field(default_factory=dict)
    tweets: list[tuple[int, int, str]] = field(default_factory=list)
    follows: set[tuple[int, int]] = field(default_factory=set)
    faults: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    position: int = 1000
    asked: Counter[str] = field(default_factory=Counter)
    min_positions: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Answer a write."""
        with self.lock:
            if path == "/users":
                return self._create_user(body["username"])
            if path == "/tweets":
                return self._create_tweet(body["user_id"], body["content"])
            followee_id = int(path.split("/")[2])
            if followee_id == body["user_id"]:
                return 422, {"detail": "One cannot follow oneself", "code": "cannot_follow_self"}
            self.follows.add((body["user_id"], followee_id))
            self.position += 1
            return 200, {"status": "success"}

    def get(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """Answer a read."""
        match path.strip("/").split("/"):
            case ["healthz", "ready"]:
                return 200, {"status": "ok"}
            case ["users", "by-username", name] if name in self.users:
                return 200, {"id": self.users[name]}
            case ["users", user_id] if int(user_id) in self.users.values():
                return 200, {"id": int(user_id)}
            case ["users", author_id, "tweets"]:
                return 200, self._page(int(author_id), query)
            case _:
                return 404, {"detail": "Not found", "code": "not_found"}

    def contents(self) -> Counter[str]:
        """How often each text is there."""
        return Counter(content for _, _, content in self.tweets)

    def _create_user(self, username: str) -> tuple[int, dict[str, Any]]:
        if username in self.users:
            return 409, {"detail": "This username is taken", "code": "username_taken"}
        self.position += 1
        self.users[username] = self.position
        return 201, {"id": self.position, "username": username}

    def _create_tweet(self, author_id: int, content: str) -> tuple[int, dict[str, Any]]:
        self.asked[content] += 1
        fault = self.faults[content].pop(0) if self.faults[content] else ""
        if fault == "plain 503":
            return 503, {"detail": "later", "code": "log_unavailable"}
        if fault == "unknown, not done":
            return 503, {"detail": "who knows", "code": "outcome_unknown"}
        if fault == "unauthenticated":
            return 401, {"detail": "Authentication is required", "code": "authentication_required"}
        if fault == "refused":
            return 422, {"detail": [{"msg": "must not be blank"}], "code": "validation_error"}
        self.position += 1
        self.tweets.append((self.position, author_id, content))
        if fault == "unknown, done":
            return 503, {"detail": "who knows", "code": "outcome_unknown"}
        return (0 if fault == "reply lost" else 201), {"id": self.position}

    def _page(self, author_id: int, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        limit, since, below = int(query["limit"][0]), int(query["since_id"][0]), int(query.get("max_id", ["0"])[0])
        mine = [
            {"id": tweet_id, "content": content}
            for tweet_id, author, content in reversed(self.tweets)
            if author == author_id and tweet_id > since and (not below or tweet_id < below)
        ]
        return mine[:limit]


def _handler(fake: FakeTwitter) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # one packet an answer

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._answer(*fake.post(self.path, body))

        def do_GET(self) -> None:
            fake.min_positions.append(int(self.headers.get("X-Min-Position", "0")))
            url = urlsplit(self.path)
            self._answer(*fake.get(url.path, parse_qs(url.query)))

        def _answer(self, status: int, body: Any) -> None:
            if status == 0:
                self.close_connection = True
                return
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Log-Position", str(fake.position))
            if status == 503:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def twitter() -> Iterator[FakeTwitter]:
    """A fake system that answers over real HTTP."""
    fake = FakeTwitter()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake)) as server:
        server.daemon_threads = True
        fake.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """Two people who follow each other, and eight tweets, two of them alike."""
    rows: list[dict[str, Any]] = [
        {"username": "ada", "email": "ada@example.com", "password": "top secret"},
        {"username": "bob", "email": "bob@example.com"},
        {"follower": "ada", "followee": "bob"},
        {"follower": "bob", "followee": "ada"},
        *({"username": name, "content": f"tweet {n}"} for n in range(3) for name in ("ada", "bob")),
        *({"username": "ada", "content": "again"} for _ in range(2)),
    ]
    path = tmp_path / "rows.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Inputs((path,))


EXPECTED = Counter({"tweet 0": 2, "tweet 1": 2, "tweet 2": 2, "again": 2})


def _run(twitter: FakeTwitter, inputs: Inputs, directory: Path, *, patience_seconds: float = 5.0) -> Importer:
    api = Api(twitter.url, twitter.url, patience_seconds=patience_seconds, settle_seconds=0.0)
    with closing(api), Journal(directory / "journal", inputs.fingerprint()) as journal:
        importer = Importer(api, journal, lambda _: None, concurrency=3)
        importer.run(lambda: read_rows(inputs), 0.0)
    return importer


def test_everything_is_imported_once(twitter: FakeTwitter, inputs: Inputs, tmp_path: Path) -> None:
    """Users, follows and tweets; a second run finds nothing left to do."""
    importer = _run(twitter, inputs, tmp_path)
    ada, bob = twitter.users["ada"], twitter.users["bob"]
    assert twitter.follows == {(ada, bob), (bob, ada)}
    assert twitter.contents() == EXPECTED
    assert importer.tally.applied == {"user": 2, "follow": 2, "tweet": 8}
    again = _run(twitter, inputs, tmp_path)
    assert twitter.contents() == EXPECTED
    assert again.tally.earlier == {"user": 2, "follow": 2, "tweet": 8}
    assert not again.tally.applied


def test_tweets_of_an_author_keep_their_order(twitter: FakeTwitter, inputs: Inputs, tmp_path: Path) -> None:
    """However many requests run at a time."""
    _run(twitter, inputs, tmp_path)
    ada = twitter.users["ada"]
    contents = [content for _, author, content in twitter.tweets if author == ada]
    assert contents == ["tweet 0", "tweet 1", "tweet 2", "again", "again"]


@pytest.mark.parametrize("fault", ["plain 503", "unknown, done", "unknown, not done", "reply lost"])
def test_a_fault_neither_loses_nor_doubles_a_tweet(
    twitter: FakeTwitter, inputs: Inputs, tmp_path: Path, fault: str
) -> None:
    """A plain 503 is sent again; after an unknown outcome the author's tweets are read before anything is sent."""
    for content in EXPECTED:
        twitter.faults[content] = [fault]
    importer = _run(twitter, inputs, tmp_path)
    assert twitter.contents() == EXPECTED
    assert importer.tally.applied["tweet"] == 8


def test_looking_for_a_tweet_asks_for_the_newest_state(twitter: FakeTwitter, inputs: Inputs, tmp_path: Path) -> None:
    """A reader that lags must not make us believe that a tweet is not there."""
    twitter.faults["again"] = ["reply lost"]
    _run(twitter, inputs, tmp_path)
    ada = twitter.users["ada"]  # the author; others' tweets are sent meanwhile
    earlier = [tweet_id for tweet_id, author, content in twitter.tweets if author == ada and content != "again"]
    assert max(twitter.min_positions) >= max(earlier)


@pytest.mark.parametrize("settled", range(9))
def test_a_killed_import_goes_on_where_it_stopped(
    twitter: FakeTwitter, inputs: Inputs, tmp_path: Path, settled: int
) -> None:
    """Killed with any number of tweets written down as done, all of them sent: none is there twice afterwards."""
    _run(twitter, inputs, tmp_path)
    _forget_after(tmp_path / "journal", settled)
    importer = _run(twitter, inputs, tmp_path)
    assert twitter.contents() == EXPECTED
    assert importer.tally.applied.get("tweet", 0) == 8 - settled


@pytest.mark.parametrize("lost", range(9))
def test_tweets_announced_but_never_sent_are_sent_by_the_next_run(
    twitter: FakeTwitter, inputs: Inputs, tmp_path: Path, lost: int
) -> None:
    """Killed after the announcement: what the server does not have is sent, what it has is not."""
    _run(twitter, inputs, tmp_path)
    _forget_after(tmp_path / "journal", 0)
    del twitter.tweets[len(twitter.tweets) - lost :]
    _run(twitter, inputs, tmp_path)
    assert twitter.contents() == EXPECTED


def _forget_after(path: Path, tweets: int) -> None:
    """Cut the journal as a crash does, so that it ends with this many tweets done."""
    kept, seen = [], 0
    for line in path.read_text().splitlines(keepends=True):
        record = json.loads(line)
        is_tweet = record[0] == "done" and record[2] > 0
        if is_tweet and seen == tweets:
            break
        seen += is_tweet
        kept.append(line)
    path.write_text("".join(kept))


def test_an_import_that_lost_its_journal_finds_the_users(twitter: FakeTwitter, inputs: Inputs, tmp_path: Path) -> None:
    """A taken username is the user of the row; a follow is the same follow."""
    _run(twitter, inputs, tmp_path)
    importer = _run(twitter, inputs, tmp_path / "elsewhere")
    assert importer.tally.existed == {"user": 2}
    assert len(twitter.users) == len(twitter.follows) == 2


def test_refusals_are_kept_with_their_reason(twitter: FakeTwitter, tmp_path: Path) -> None:
    """A bad line, an unknown author and what the server refuses; never a password; the rest is imported."""
    path = tmp_path / "rows.ndjson"
    path.write_text(
        '{"username": "ada", "email": "a@example.com", "password": "top secret"}\n'
        "nonsense\n"
        '{"follower": "ada", "followee": "ada"}\n'
        '{"username": "nobody", "content": "hello"}\n'
        '{"username": "ada", "content": "blank"}\n'
        '{"username": "ada", "content": "fine"}\n'
    )
    twitter.faults["blank"] = ["refused"]
    inputs = Inputs((path,))
    importer = _run(twitter, inputs, tmp_path)
    assert importer.tally.refused == {"bad": 1, "follow": 1, "tweet": 2}
    with Journal(tmp_path / "journal", inputs.fingerprint()) as journal:
        codes = {number: (refusal.line, refusal.code) for number, refusal in journal.refusals.items()}
    assert codes == {
        1: (2, "bad_row"),
        2: (3, "cannot_follow_self"),
        3: (4, "unknown_user"),
        4: (5, "validation_error"),
    }
    assert "secret" not in (tmp_path / "journal").read_text()
    assert twitter.contents() == Counter(["fine"])


def test_a_tweet_in_doubt_is_found_among_many(twitter: FakeTwitter, tmp_path: Path) -> None:
    """However many pages its author has written since."""
    path = tmp_path / "rows.csv"
    path.write_text("username,content\n" + "".join(f"ada,tweet {number}\n" for number in range(250)))
    twitter.users["ada"] = 1
    inputs = Inputs((path,))
    _run(twitter, inputs, tmp_path)
    _forget_after(tmp_path / "journal", 0)
    _run(twitter, inputs, tmp_path)
    assert set(twitter.contents().values()) == {1}


def test_a_server_that_wants_authentication_ends_the_import_at_once(
    twitter: FakeTwitter, inputs: Inputs, tmp_path: Path
) -> None:
    """Not a refusal of each of a million rows."""
    for content in EXPECTED:
        twitter.faults[content] = ["unauthenticated"] * 2
    with pytest.raises(CommandFailed, match="AUTH_REQUIRED=false"):
        _run(twitter, inputs, tmp_path)


def test_a_server_that_stays_away_ends_the_import_with_what_to_do(
    twitter: FakeTwitter, inputs: Inputs, tmp_path: Path
) -> None:
    """Exit code 3, one line; the next run does the rest."""
    twitter.faults["tweet 1"] = ["plain 503"] * 100
    with pytest.raises(CommandFailed, match=r"503 log_unavailable.*goes on where this one stopped") as failure:
        _run(twitter, inputs, tmp_path, patience_seconds=0.0)
    assert failure.value.exit_code == 3
    twitter.faults.clear()
    _run(twitter, inputs, tmp_path)
    assert twitter.contents() == EXPECTED


def test_a_journal_of_another_system_is_refused(twitter: FakeTwitter, inputs: Inputs, tmp_path: Path) -> None:
    """Else everything would be taken for done where nothing is."""
    _run(twitter, inputs, tmp_path)
    twitter.users.clear()
    with pytest.raises(CommandFailed, match="journal of another system"):
        _run(twitter, inputs, tmp_path)


def test_a_service_that_is_not_there_is_a_line_that_says_how_to_start_it(inputs: Inputs, tmp_path: Path) -> None:
    """No traceback for a system that does not run."""
    nowhere = FakeTwitter(url="http://127.0.0.1:1")
    with pytest.raises(CommandFailed, match=r"cannot be reached.*twitter dev") as failure:
        _run(nowhere, inputs, tmp_path, patience_seconds=0.0)
    assert failure.value.exit_code == 3
