"""Hot writes are answered as the framework answers them: over HTTP, each request is sent to both.

The framework gets it by a parameter that no route knows, which leaves hot routes out and changes nothing else.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import NamedTuple
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.ids import POSITION_MAX
from tests.support.ports import HOST
from tests.support.process import ServiceProcess
from tests.support.system import System
from tests.support.wait import eventually

NEW = re.compile(rb'"id":\d+|"created_at":"[^"]*"')
"""What differs between two tweets that are alike."""

Headers = tuple[tuple[str, str], ...]


class World(NamedTuple):
    """What there is to be acted on."""

    connection: HTTPConnection
    user_id: int
    tweet_id: int


@pytest.fixture
def world(system: System) -> Iterator[World]:
    """A user and her tweet."""
    user_id = system.create_user(f"u{uuid4().hex[:12]}").json()["id"]
    tweet_id = system.create_tweet(user_id, "hot").json()["id"]
    system.wait_until_applied(tweet_id)
    connection = HTTPConnection(HOST, system.writers[0].port, timeout=10)
    yield World(connection, user_id, tweet_id)
    connection.close()


def ask(connection: HTTPConnection, method: str, target: str, body: bytes, headers: Headers) -> object:
    """Status, headers and body, but for what is new each time."""
    connection.putrequest(method, target)
    for name, value in (("X-Request-Id", "same"), ("Content-Length", str(len(body))), *headers):
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    kept = [(name, value if name != "x-log-position" else "") for name, value in answer.getheaders() if name != "date"]
    return answer.status, kept, NEW.sub(b"", answer.read())


TEXTS = st.one_of(
    st.sampled_from(["hello", "", " ", "\u200b", "e\u0301" * 280, "x" * 281, "a\0b", "\u00e9\U0001f600"]),
    st.text(max_size=20),
)
ODD_BODIES = st.sampled_from(
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"1",
        b'{"content":"a","content":"b"}',
        b"{",
        b'{"content":"\\ud800"}',
        b"\xff",
        b"NaN",
    ]
)


@st.composite
def bodies(draw: st.DrawFn, world: World) -> bytes:
    """Bodies, good and bad."""
    ids = st.one_of(
        st.sampled_from([world.user_id, world.tweet_id]),
        st.sampled_from([0, -1, 7, POSITION_MAX, POSITION_MAX + 1, 10**30, 1.0, True, "1", None, [1]]),
    )
    names = {"content": TEXTS, "user_id": ids, "in_reply_to_id": ids, "quote_of_id": ids, "other": ids}
    chosen = draw(st.lists(st.sampled_from(sorted(names)), unique=True, max_size=4))
    fields = {name: draw(st.one_of(names[name], ids)) for name in chosen}
    if draw(st.booleans()):
        fields |= {"content": "hello", "user_id": world.user_id}
    return draw(st.one_of(st.just(json.dumps(fields).encode()), st.just(json.dumps(fields).encode()), ODD_BODIES))


def header_lists() -> st.SearchStrategy[Headers]:
    """Headers that change an answer, sometimes twice."""
    choices = st.sampled_from(
        [
            ("Authorization", "Bearer x"),
            ("Authorization", "x"),
            ("Idempotency-Key", "not one, as it has spaces"),
            ("Content-Type", "text/plain"),
            ("Accept", "x"),
        ]
    )
    json_type = ("Content-Type", "application/json")
    return st.lists(choices, max_size=2).map(lambda chosen: (json_type, *chosen))


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_hot_write_and_the_framework_give_the_same_answer(world: World, data: st.DataObject) -> None:
    """Whatever the path, the body and the headers: status, headers in their order, and body.

    The second time the head is known, and not parsed again.
    """
    ids = st.sampled_from([str(world.tweet_id), str(world.tweet_id), "7", "0", "-1", "007", "x", str(POSITION_MAX)])
    path = data.draw(st.sampled_from(["/tweets", "/tweets", "/tweets/{}/like", "/tweets/{}/retweet", "/tweets/{}"]))
    path = path.format(data.draw(ids))
    body, headers = data.draw(bodies(world)), data.draw(header_lists())
    hot, known, framework = (
        ask(world.connection, "POST", target, body, headers) for target in (path, path, f"{path}?x=1")
    )
    assert hot == known == framework


@pytest.mark.parametrize(
    "header",
    [
        ("Authorization", "Bearer x"),
        ("Authorization", ""),
        ("Idempotency-Key", "has spaces"),
        ("Idempotency-Key", ""),
        ("Content-Type", "text/plain"),
    ],
)
def test_each_header_that_changes_a_hot_write_does_so_both_ways(world: World, header: tuple[str, str]) -> None:
    """Beside a good body: generated requests meet few of these where a hot route would serve."""
    content_type = () if header[0] == "Content-Type" else (("Content-Type", "application/json"),)
    tweet, act = {"content": "hello", "user_id": world.user_id}, {"user_id": world.user_id}
    for path, body in (("/tweets", tweet), (f"/tweets/{world.tweet_id}/like", act)):
        encoded = json.dumps(body).encode()
        hot, known, framework = (
            ask(world.connection, "POST", f"{path}{asked}", encoded, (*content_type, header))
            for asked in ("", "", "?x=1")
        )
        assert hot == known == framework, (path, header)


def request_of(path: str, body: bytes, method: str = "POST") -> bytes:
    """A request as it is on the wire."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def answers(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """The next answers on a connection: status and body of each."""
    found = []
    with connection.makefile("rb") as stream:
        for _ in range(count):
            status = int(stream.readline().split()[1])
            lines = iter(stream.readline, b"\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in lines)
            found.append((status, stream.read(int(headers[b"content-length"]))))
    return found


def connected(system: System) -> socket.socket:
    """A connection whose pieces are sent at once, each by itself."""
    connection = socket.create_connection((HOST, system.writers[0].port), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


@pytest.mark.parametrize("pieces", [1, 2, 3, 20])
def test_a_write_in_pieces_is_answered_as_one_in_a_piece(system: System, world: World, pieces: int) -> None:
    """Hot only where a read brings all of it; wherever it is cut, it is written once."""
    body = json.dumps({"content": "in pieces", "user_id": world.user_id}).encode()
    request = request_of("/tweets", body)
    step = -(-len(request) // pieces)
    with connected(system) as connection:
        for start in range(0, len(request), step):
            connection.sendall(request[start : start + step])
        ((status, answer),) = answers(connection, 1)
    assert (status, json.loads(answer)["content"]) == (201, "in pieces")


@pytest.mark.parametrize("is_in_a_piece", [True, False])
def test_writes_in_a_pipeline_are_answered_in_their_order(system: System, world: World, *, is_in_a_piece: bool) -> None:
    """Hot or not: good ones, one that is refused, one of another method, sent in a piece or one by one."""
    good = json.dumps({"content": "one of many", "user_id": world.user_id}).encode()
    like = request_of(f"/tweets/{world.tweet_id}/like", b"{}")
    requests = [request_of("/tweets", good), request_of("/tweets", b"{}"), request_of("/", b"", "GET"), like]
    with connected(system) as connection:
        connection.sendall(requests[0])
        answers(connection, 1)  # from now on its head is known
        pieces = [*requests, *requests]
        for piece in [b"".join(pieces)] if is_in_a_piece else pieces:
            connection.sendall(piece)
        found = answers(connection, len(pieces))
    assert [status for status, _ in found] == [201, 422, 200, 200] * 2
    assert json.loads(found[0][1])["id"] < json.loads(found[4][1])["id"]


def test_a_client_that_has_gone_is_no_harm_to_its_write_nor_to_others(fresh_system: System) -> None:
    """Redis stalls, she leaves, and whether her tweet is still in time depends on when Redis goes on."""
    system = fresh_system
    user_id = system.create_user("ada").json()["id"]
    with connected(system) as connection:
        connection.sendall(request_of("/tweets", json.dumps({"content": "once", "user_id": user_id}).encode()))
        answers(connection, 1)
        system.redis.pause()
        connection.sendall(request_of("/tweets", json.dumps({"content": "gone", "user_id": user_id}).encode()))
        eventually(lambda: 'append_batch_entries_bucket{le="1.0"} 3' in system.writers[0].metrics())
    system.redis.resume()
    position = system.create_tweet(user_id, "last").json()["id"]
    system.wait_until_applied(position)
    found = [tweet["content"] for tweet in system.read.get(f"/users/{user_id}/tweets").json()]
    assert [content for content in found if content != "gone"] == ["last", "once"]
    assert found.count("gone") <= 1


def test_a_hot_write_that_fails_later_is_answered_and_counted_as_any_other(fresh_system: System) -> None:
    """There is no log: the same refusal both ways, and each is counted by its route."""
    system, writer = fresh_system, fresh_system.writers[0]
    user_id = system.create_user("ada").json()["id"]
    system.create_tweet(user_id, "first")
    system.redis.kill()
    body = json.dumps({"content": "lost", "user_id": user_id}).encode()
    headers: Headers = (("Content-Type", "application/json"),)
    connection = HTTPConnection(HOST, writer.port, timeout=10)

    def post(target: str = "/tweets") -> tuple[int, object, bytes]:
        answer = ask(connection, "POST", target, body, headers)
        assert isinstance(answer, tuple)
        return answer

    # Of those that are on their way when Redis ends nobody knows what becomes of them.
    eventually(lambda: json.loads(post()[2])["code"] == "log_unavailable")
    connection.close()  # it opens again: the head of a connection's first request is parsed
    refused_before = refused(writer)
    hot, known, framework = post(), post(), post("/tweets?x=1")
    connection.close()
    assert (hot[0], json.loads(hot[2])["code"]) == (503, "log_unavailable")
    assert hot == known == framework
    assert refused(writer) == refused_before + 3


def refused(writer: ServiceProcess) -> float:
    """How many new tweets were answered 503."""
    line = r'^http_requests_total\{method="POST",route="/tweets",status="503"\} (.+)$'
    found = re.search(line, writer.metrics(), re.MULTILINE)
    return 0 if found is None else float(found[1])
