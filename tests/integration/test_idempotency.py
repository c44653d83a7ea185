"""Idempotency-Key over HTTP: what is sent again is answered alike, and done once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import pytest

from services.common.auth import add_key
from services.common.ids import created_at
from services.common.log.client import EventLog
from tests.integration.test_write_service import (
    create_tweet,
    create_user,
    entries,
    start,
    user_of_another_writer,
    view_of,
    write_service,
)
from tests.support.redis_server import RedisServer
from tests.support.stub_reader import StubReader

pytestmark = pytest.mark.anyio

PASSWORD: Final = "correct horse battery"
NO_FOLLOWERS: Final = {"followers_count": 0, "following_count": 0}
LONG_KEY: Final = "0b6f2c1e-6d0c-4f0e-9a83-1f1f3a0c7d11"


@pytest.fixture
def event_log(redis_server: RedisServer) -> Iterator[EventLog]:
    """A started log."""
    with closing(EventLog(redis_server.url)) as log:
        start(log)
        yield log


@pytest.fixture
async def reader() -> AsyncIterator[StubReader]:
    """A read service without any views."""
    async with StubReader() as stub:
        yield stub


@pytest.fixture
async def writers(
    redis_server: RedisServer,
    event_log: EventLog,  # noqa: ARG001  # started before the services
    reader: StubReader,
    tmp_path: Path,
) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Clients of two write services with the same keys, over one log."""
    add_key(tmp_path / "auth.json", int(time.time()))
    settings = {"READ_SERVICE_URL": reader.url, "AUTH_KEYS_FILE": tmp_path / "auth.json"}
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(write_service(redis_server.url, **settings)) for _ in range(2)]


@pytest.fixture
def write(writers: list[httpx.AsyncClient]) -> httpx.AsyncClient:
    """One of the two."""
    return writers[0]


def under(key: str, token: str | None = None) -> dict[str, str]:
    """The headers of a request under a key."""
    return {"Idempotency-Key": key} | ({} if token is None else {"Authorization": f"Bearer {token}"})


def person(name: str, **more: str) -> dict[str, str]:
    """The body that opens an account."""
    return {"username": name, "email": f"{name}@example.org", **more}


def shown(user_id: int, username: str = "ada") -> dict[str, Any]:
    """A user as the read service shows her when she has just come."""
    return {**view_of(user_id), "username": username, "created_at": created_at(user_id), **NO_FOLLOWERS}


async def introduce(user_id: int, writers: list[httpx.AsyncClient], reader: StubReader) -> None:
    """Each service knows how this author looks: a repeated answer is not 503 because the first look-up was too slow."""
    reader.views[f"/users/{user_id}"] = shown(user_id)
    body = {"content": "here I am", "user_id": user_id}
    with anyio.fail_after(20):
        for write in writers:
            while (await write.post("/tweets", json=body)).json()["user"] is None:
                pass


def refusal(answer: httpx.Response) -> tuple[int, str | None]:
    """Status and code."""
    return answer.status_code, answer.json().get("code")


async def sign_up(write: httpx.AsyncClient, name: str, **more: str) -> tuple[int, str]:
    """The id of a new account and an access token for it."""
    answer = await write.post("/users", json=person(name, **more))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], answer.json()["access_token"]


async def test_each_post_is_done_once_under_a_key_and_answered_alike(
    writers: list[httpx.AsyncClient], reader: StubReader, event_log: EventLog
) -> None:
    """Body and position of the first answer, from another process too. Another body is refused, another key done."""
    ada, bob = await create_user(writers[0]), await create_user(writers[0], "bob")
    await introduce(ada, writers, reader)
    tweet = await create_tweet(writers[0], ada)
    requests: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("/tweets", {"content": "hello", "user_id": ada}, {"content": "other", "user_id": ada}),
        (f"/tweets/{tweet}/like", {}, {"user_id": bob}),
        (f"/tweets/{tweet}/retweet", {"user_id": bob}, {}),
        (f"/users/{ada}/follow", {"user_id": bob}, {"user_id": tweet}),
    ]
    for path, body, other in requests:
        before = len(entries(event_log))
        first = await writers[0].post(path, json=body, headers=under("1"))
        again = [await write.post(path, json=body, headers=under("1")) for write in writers]
        assert first.status_code in {200, 201}
        for answer in again:
            assert (answer.status_code, answer.json()) == (first.status_code, first.json())
            assert answer.headers["X-Log-Position"] == first.headers["X-Log-Position"]
        assert len(entries(event_log)) == before + 1
        mismatch = await writers[1].post(path, json=other, headers=under("1"))
        assert refusal(mismatch) == (422, "idempotency_mismatch")
        assert (await writers[1].post(path, json=body, headers=under("2"))).status_code == first.status_code
        assert len(entries(event_log)) == before + 2


async def test_parallel_retries_over_two_services_make_one_tweet(
    writers: list[httpx.AsyncClient], reader: StubReader, event_log: EventLog
) -> None:
    """Within a batch and across batches; each gets the same answer."""
    ada = await create_user(writers[0])
    await introduce(ada, writers, reader)
    body = {"content": "hello", "user_id": ada}
    for number in range(5):
        before = len(entries(event_log))
        headers = under(f"key-{number}")
        answers = await asyncio.gather(
            *(write.post("/tweets", json=body, headers=headers) for write in writers for _ in range(20))
        )
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len(entries(event_log)) == before + 1


async def test_a_strangers_key_shares_nothing(write: httpx.AsyncClient, event_log: EventLog) -> None:
    """Not between two accounts, nor between an account and whoever has none at the same address."""
    (ada, ada_token), (bob, bob_token) = await sign_up(write, "ada"), await sign_up(write, "bob")
    before = len(entries(event_log))
    tokens = [ada_token, bob_token, None]
    answers = [
        await write.post("/tweets", json={"content": "hi", "user_id": user}, headers=under("1", token))
        for user, token in zip((ada, bob, ada), tokens, strict=True)
    ]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.json()["id"] for answer in answers}) == 3
    assert len(entries(event_log)) == before + 3


async def test_two_strangers_open_accounts_under_the_same_key(
    redis_server: RedisServer, writers: list[httpx.AsyncClient], event_log: EventLog
) -> None:
    """HAZARDS 23: from two addresses two accounts; at one address another body is refused, and nobody gets a token."""
    headers = under("1")
    app = writers[0]._transport.app  # type: ignore[attr-defined]
    elsewhere = httpx.ASGITransport(app=app, client=("203.0.113.9", 1))
    first = await writers[0].post("/users", json=person("ada"), headers=headers)
    async with httpx.AsyncClient(transport=elsewhere, base_url="http://write") as stranger:
        second = await stranger.post("/users", json=person("bob"), headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json()["id"] != second.json()["id"]
    mismatch = await writers[0].post("/users", json=person("eve"), headers=headers)
    assert refusal(mismatch) == (422, "idempotency_mismatch")
    assert [payload["username"] for _, payload in entries(event_log)] == ["ada", "bob"]
    with redis_server.client() as redis:
        stored = [*redis.hgetall(redis.keys("idempotency:[0-9]*")[0]).values()]
    assert all(
        token.encode() not in value for value in stored for token in first.json().values() if isinstance(token, str)
    )


@pytest.mark.parametrize("password", [None, PASSWORD])
async def test_an_account_is_opened_once_and_its_tokens_are_minted_anew(
    writers: list[httpx.AsyncClient], event_log: EventLog, password: str | None
) -> None:
    """The profile is the same; the new tokens are good."""
    body = person("ada", **({} if password is None else {"password": password}))
    first = await writers[0].post("/users", json=body, headers=under(LONG_KEY))
    again = await writers[1].post("/users", json=body, headers=under(LONG_KEY))
    assert (first.status_code, again.status_code) == (201, 201)
    profile = {"id", "username", "created_at", "followers_count", "following_count"}
    assert {name: first.json()[name] for name in profile} == {name: again.json()[name] for name in profile}
    assert first.json()["refresh_token"] != again.json()["refresh_token"]
    assert again.headers["Cache-Control"] == "no-store"
    assert len(entries(event_log)) == 1
    token = again.json()["access_token"]
    answer = await writers[0].post("/tweets", json={"content": "hi"}, headers=under("1", token))
    assert answer.status_code == 201
    refreshed = await writers[0].post("/auth/refresh", json={"refresh_token": again.json()["refresh_token"]})
    assert refreshed.status_code == 200


async def test_a_key_that_others_may_guess_gets_nobody_tokens_without_a_password(write: httpx.AsyncClient) -> None:
    """Who shares the address and knows name and e-mail would have the account; with a password it takes that."""
    await write.post("/users", json=person("ada"), headers=under("1"))
    guessed = await write.post("/users", json=person("ada"), headers=under("1"))
    assert guessed.status_code == 201
    assert "access_token" not in guessed.json()
    await write.post("/users", json=person("bob", password=PASSWORD), headers=under("2"))
    wrong = await write.post("/users", json=person("bob", password="not her password"), headers=under("2"))
    assert refusal(wrong) == (422, "idempotency_mismatch")
    without = await write.post("/users", json=person("bob"), headers=under("2"))
    assert refusal(without) == (422, "idempotency_mismatch")
    right = await write.post("/users", json=person("bob", password=PASSWORD), headers=under("2"))
    assert "access_token" in right.json()


async def test_nobody_gets_around_what_became_of_an_account_by_repeating_its_beginning(
    write: httpx.AsyncClient, event_log: EventLog
) -> None:
    """Revoked, given a password since, or deleted: the profile as it was, and no tokens."""

    async def repeat(name: str) -> httpx.Response:
        return await write.post("/users", json=person(name), headers=under(LONG_KEY + name))

    for name, change in [
        ("ada", ("POST", "/auth/revoke", None)),
        ("bob", ("PATCH", "/users/me", {"password": PASSWORD})),
        ("eve", ("DELETE", "/users/me", None)),
    ]:
        first = await repeat(name)
        headers = {"Authorization": f"Bearer {first.json()['access_token']}"}
        method, path, body = change
        assert (await write.request(method, path, json=body, headers=headers)).status_code == 200
        before = len(entries(event_log))
        again = await repeat(name)
        assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
        assert "access_token" not in again.json()
        assert len(entries(event_log)) == before


async def test_a_revoked_token_gets_no_answer_of_old(write: httpx.AsyncClient, event_log: EventLog) -> None:
    """401, as for anything else; who logs in again gets it."""
    _, token = await sign_up(write, "ada", password=PASSWORD)
    first = await write.post("/tweets", json={"content": "hi"}, headers=under("1", token))
    await write.post("/auth/revoke", headers=under("1", token))
    before = len(entries(event_log))
    again = await write.post("/tweets", json={"content": "hi"}, headers=under("1", token))
    assert refusal(again) == (401, "token_revoked")
    login = await write.post("/auth/token", json={"username": "ada", "password": PASSWORD})
    later = await write.post("/tweets", json={"content": "hi"}, headers=under("1", login.json()["access_token"]))
    assert later.json() == first.json()
    assert len(entries(event_log)) == before


async def test_what_is_gone_since_does_not_change_the_answer(
    write: httpx.AsyncClient, reader: StubReader, event_log: EventLog
) -> None:
    """The tweet itself is deleted, and so is the one that it replies to: the answer is that of then."""
    ada = await create_user(write)
    parent = await create_tweet(write, ada)
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/tweets", {"content": "yes", "user_id": ada, "in_reply_to_id": parent}),
        (f"/tweets/{parent}/like", {"user_id": ada}),
    ]
    firsts = [await write.post(path, json=body, headers=under(LONG_KEY)) for path, body in requests]
    for tweet in (parent, firsts[0].json()["id"]):
        await write.request("DELETE", f"/tweets/{tweet}", json={"user_id": ada})
    reader.views[f"/users/{ada}"] = firsts[0].json()["user"]
    reader.position = event_log.head()
    before = len(entries(event_log))
    for (path, body), first in zip(requests, firsts, strict=True):
        again = await write.post(path, json=body, headers=under(LONG_KEY))
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        new = await write.post(path, json=body, headers=under("another"))
        assert refusal(new) == (404, "tweet_not_found")
    assert len(entries(event_log)) == before


async def test_an_answer_that_nobody_can_make_now_is_a_503(
    redis_server: RedisServer, writers: list[httpx.AsyncClient], reader: StubReader, event_log: EventLog
) -> None:
    """The author is what the request does not hold. Nothing is written, and once the reader is back it is all there."""
    eve = user_of_another_writer(event_log)
    await introduce(eve, writers, reader)
    before = len(entries(event_log))
    body = {"content": "hi", "user_id": eve}
    first = await writers[0].post("/tweets", json=body, headers=under("1"))
    assert first.status_code == 201
    reader.is_mute = True
    async with write_service(redis_server.url, READ_SERVICE_URL=reader.url) as restarted:
        answer = await restarted.post("/tweets", json=body, headers=under("1"))
        assert refusal(answer) == (503, "answer_unavailable")
        assert answer.headers["Retry-After"]
        reader.is_mute = False
        again = await restarted.post("/tweets", json=body, headers=under("1"))
    assert again.json() == first.json()
    assert len(entries(event_log)) == before + 1


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "caf\u00e9", "\u00a0", "tab\tbed"])
async def test_a_key_that_is_none_is_refused_on_every_post(
    write: httpx.AsyncClient, event_log: EventLog, key: str
) -> None:
    """400, and nothing is written."""
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    for path, body in [
        ("/users", person("ada")),
        ("/tweets", {"content": "x", "user_id": 1}),
        ("/tweets/1/like", {}),
        ("/tweets/1/retweet", {}),
        ("/users/1/follow", {"user_id": 2}),
        ("/auth/token", {"username": "ada", "password": PASSWORD}),
        ("/auth/refresh", {"refresh_token": "x"}),
    ]:
        answer = await write.post(path, json=body, headers=headers)
        assert refusal(answer) == (400, "bad_idempotency_key"), path
    assert entries(event_log) == []


async def test_two_keys_are_refused(write: httpx.AsyncClient, event_log: EventLog) -> None:
    """Which of them counted would depend on who looks."""
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = await write.post("/users", json=person("ada"), headers=headers)
    assert refusal(answer) == (400, "bad_idempotency_key")
    assert entries(event_log) == []


async def test_the_longest_and_strangest_keys_are_keys(write: httpx.AsyncClient, event_log: EventLog) -> None:
    """Each for itself, and each once."""
    tweet = await create_tweet(write, await create_user(write))
    texts = ["x" * 255, "x" * 254, '"quoted"', "!", "~", ":", "a:b", "A:b"]
    for text in texts * 2:
        answer = await write.post(f"/tweets/{tweet}/like", headers=under(text))
        assert answer.status_code == 200
    assert len(entries(event_log)) == 2 + len(texts)
