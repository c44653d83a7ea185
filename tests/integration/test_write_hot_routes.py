"""Hot writes are answered as the framework answers them: over HTTP, each request is sent to both.

The framework gets it by a parameter that no route knows, which leaves hot routes out and changes nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import NamedTuple
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.ids import POSITION_MAX
from tests.support.ports import HOST
from tests.support.system import System

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
    """Whatever the path, the body and the headers: status, headers in their order, and body."""
    ids = st.sampled_from([str(world.tweet_id), str(world.tweet_id), "7", "0", "-1", "007", "x", str(POSITION_MAX)])
    path = data.draw(st.sampled_from(["/tweets", "/tweets", "/tweets/{}/like", "/tweets/{}/retweet", "/tweets/{}"]))
    path = path.format(data.draw(ids))
    body, headers = data.draw(bodies(world)), data.draw(header_lists())
    hot, framework = (ask(world.connection, "POST", target, body, headers) for target in (path, f"{path}?x=1"))
    assert hot == framework


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
        hot, framework = (
            ask(world.connection, "POST", f"{path}{asked}", encoded, (*content_type, header)) for asked in ("", "?x=1")
        )
        assert hot == framework, (path, header)
