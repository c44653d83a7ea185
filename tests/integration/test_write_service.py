"""The write service as its clients see it: a real log, and a read service that the test plays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from services.common.ids import POSITION_MAX, created_at
from services.common.log.client import EventLog
from services.write import appending, existence
from services.write.app import create_app
from services.write.existence import CONNECTIONS_MAX
from services.write.settings import WriteSettings
from tests.support.faulty_network import Fault, FaultyNetwork
from tests.support.owner import user
from tests.support.process import ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.stub_reader import StubReader
from tests.support.system import EMAIL_HASH_KEY
from tests.support.wait import PROMPT_SECONDS, eventually

pytestmark = pytest.mark.anyio

NOBODY_LISTENS = "http://127.0.0.1:9"
ADA = {"username": "ada", "email": "ada@example.org"}


@pytest.fixture
def event_log(redis_server: RedisServer) -> Iterator[EventLog]:
    """A started log."""
    log = EventLog(redis_server.url)
    start(log)
    yield log
    log.close()


@pytest.fixture
async def reader() -> AsyncIterator[StubReader]:
    """A read service without any views."""
    async with StubReader() as stub:
        yield stub


@pytest.fixture
async def write(
    redis_server: RedisServer,
    event_log: EventLog,  # noqa: ARG001  # started before the service
    reader: StubReader,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a write service over the started log, which asks ``reader``."""
    async with write_service(redis_server.url, READ_SERVICE_URL=reader.url) as client:
        yield client


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time for what the read service says, however busy the machine is; for tests that are not about time."""
    monkeypatch.setattr(existence, "ASK_SECONDS", 3.0)
    monkeypatch.setattr(appending, "REQUEST_SECONDS", 4.5)


@asynccontextmanager
async def write_service(redis_url: str, **environment: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a write service in this process; nothing may stop it."""

    def stop() -> None:
        raise AssertionError("the service stopped itself")

    fields = {name.lower(): value for name, value in environment.items()}
    settings = WriteSettings(
        **{
            "redis_url": redis_url,
            "read_service_url": NOBODY_LISTENS,
            "email_hash_key": EMAIL_HASH_KEY,
            "metrics_port": 0,
            **fields,
        }
    )
    app = create_app(settings, stop=stop)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app=app)
        yield await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://write"))


def metric(client: httpx.AsyncClient, name: str) -> float | None:
    """A metric of the write service behind this client."""
    app: Any = getattr(client._transport, "app")  # noqa: B009 - httpx' ASGITransport, whose type says nothing of FastAPI
    value: float | None = app.state.registry.get_sample_value(name)
    return value


def start(log: EventLog) -> int:
    """Start the log as an owner does."""
    return log.start_epoch(log.status().epoch + 1, log.raise_fence(0), 0)


def entries(log: EventLog) -> list[tuple[str, dict[str, Any]]]:
    """The events of the log, without the start of its epoch."""
    return [(entry.name, msgspec.json.decode(entry.payload)) for entry in log.read(0)][1:]


async def create_user(write: httpx.AsyncClient, username: str = "ada") -> int:
    """A new user's id."""
    answer = await write.post("/users", json={"username": username, "email": f"{username}@example.org"})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def user_of_another_writer(log: EventLog) -> int:
    """The id of a user whom the log knows, and this writer does not."""
    (result,) = log.append([user("eve")]).results
    return int(result)


async def create_tweet(write: httpx.AsyncClient, user_id: int) -> int:
    """A new tweet's id."""
    answer = await write.post("/tweets", json={"content": "hello", "user_id": user_id})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


def view_of(user_id: int) -> dict[str, Any]:
    """A user as the read service shows her."""
    return {"id": user_id, "username": "eve", "created_at": "", "followers_count": 3, "following_count": 4}


async def test_a_created_user_comes_back_whole(write: httpx.AsyncClient, event_log: EventLog) -> None:
    """Her id is the position of her event; e-mail and password are in no event and no answer."""
    answer = await write.post("/users", json={**ADA, "password": "correct horse"})
    user_id = event_log.head()
    assert (answer.status_code, answer.headers["X-Log-Position"]) == (201, str(user_id))
    assert answer.json() == {
        "id": user_id,
        "username": "ada",
        "created_at": created_at(user_id),
        "followers_count": 0,
        "following_count": 0,
    }
    assert entries(event_log) == [("user_created", {"username": "ada"})]
    credential = event_log.credentials([user_id])[user_id]
    assert credential.email == "ada@example.org"
    assert credential.password_hash is not None
    assert credential.password_hash.startswith("$argon2id$")


async def test_a_created_tweet_comes_back_whole_with_its_author(write: httpx.AsyncClient, event_log: EventLog) -> None:
    """Its text as the log has it."""
    user_id = await create_user(write)
    answer = await write.post("/tweets", json={"content": "cafe\u0301", "user_id": user_id})
    tweet_id = event_log.head()
    author = {
        "id": user_id,
        "username": "ada",
        "created_at": created_at(user_id),
        "followers_count": 0,
        "following_count": 0,
    }
    assert (answer.status_code, answer.headers["X-Log-Position"]) == (201, str(tweet_id))
    assert answer.json() == {
        "id": tweet_id,
        "content": "café",
        "user_id": user_id,
        "created_at": created_at(tweet_id),
        "likes": 0,
        "retweets": 0,
        "user": author,
        "reply_count": 0,
        "in_reply_to_id": None,
        "quote_of_id": None,
    }


async def test_acts_are_answered_with_success_and_their_position(write: httpx.AsyncClient, event_log: EventLog) -> None:
    """Repeated or not: it is the projection that counts once."""
    ada, bob = await create_user(write), await create_user(write, "bob")
    tweet = await create_tweet(write, ada)
    before = len(entries(event_log))
    for path, body in [
        (f"/tweets/{tweet}/like", {"user_id": bob}),
        (f"/tweets/{tweet}/like", {"user_id": bob}),
        (f"/tweets/{tweet}/retweet", {}),
        (f"/users/{ada}/follow", {"user_id": bob}),
    ]:
        answer = await write.post(path, json=body)
        assert (answer.status_code, answer.json()) == (200, {"status": "success"})
        assert answer.headers["X-Log-Position"] == str(event_log.head())
    await write.post(f"/tweets/{tweet}/like")  # without a body
    for path in (f"/users/{ada}/follow", f"/tweets/{tweet}/like", f"/tweets/{tweet}/retweet"):
        answer = await write.request("DELETE", path, json={"user_id": bob})
        assert (answer.status_code, answer.json()) == (200, {"status": "success"})
        assert answer.headers["X-Log-Position"] == str(event_log.head())
    assert entries(event_log)[before:] == [
        ("tweet_liked", {"tweet_id": tweet, "user_id": bob}),
        ("tweet_liked", {"tweet_id": tweet, "user_id": bob}),
        ("tweet_retweeted", {"tweet_id": tweet}),
        ("user_followed", {"follower_id": bob, "followee_id": ada}),
        ("tweet_liked", {"tweet_id": tweet}),
        ("user_unfollowed", {"follower_id": bob, "followee_id": ada}),
        ("tweet_unliked", {"tweet_id": tweet, "user_id": bob}),
        ("tweet_unretweeted", {"tweet_id": tweet, "user_id": bob}),
    ]


async def test_a_reply_and_a_quote_come_back_whole_and_are_in_the_event(
    write: httpx.AsyncClient, event_log: EventLog
) -> None:
    """And a tweet may be both."""
    ada = await create_user(write)
    tweet = await create_tweet(write, ada)
    body = {"content": "hi", "user_id": ada, "in_reply_to_id": tweet, "quote_of_id": tweet}
    answer = await write.post("/tweets", json=body)
    assert answer.status_code == 201
    assert {key: answer.json()[key] for key in body} == body
    assert entries(event_log)[-1] == ("tweet_created", body)


@pytest.mark.parametrize("field", ["in_reply_to_id", "quote_of_id"])
async def test_a_reply_to_what_provably_does_not_exist_is_a_404(
    write: httpx.AsyncClient, reader: StubReader, event_log: EventLog, field: str
) -> None:
    """Below the head on the reader's word, above it on the log's; with nobody to ask the projection decides."""
    ada = await create_user(write)
    reader.position = ada
    reply = {"content": "hi", "user_id": ada}
    for absent in (ada - 1, ada + 1):
        answer = await write.post("/tweets", json={**reply, field: absent})
        assert (answer.status_code, answer.json()["code"]) == (404, "tweet_not_found")
    assert len(entries(event_log)) == 1
    reader.is_mute = True
    assert (await write.post("/tweets", json={**reply, field: ada - 1})).status_code == 201


async def test_only_the_author_can_delete_a_tweet(
    write: httpx.AsyncClient, reader: StubReader, event_log: EventLog
) -> None:
    """403 for a stranger on the reader's word; where nobody can say, the projection decides."""
    ada, eve = await create_user(write), await create_user(write, "eve")
    tweet = await create_tweet(write, ada)
    reader.views[f"/tweets/{tweet}"] = {"id": tweet, "user_id": ada}
    before = len(entries(event_log))
    refused = await write.request("DELETE", f"/tweets/{tweet}", json={"user_id": eve})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_the_author")
    assert len(entries(event_log)) == before
    deleted = await write.request("DELETE", f"/tweets/{tweet}", json={"user_id": ada})
    assert (deleted.status_code, deleted.json()) == (200, {"status": "success"})
    assert deleted.headers["X-Log-Position"] == str(event_log.head())
    reader.is_mute = True
    assert (await write.request("DELETE", f"/tweets/{tweet}", json={"user_id": eve})).status_code == 200
    assert entries(event_log)[before:] == [
        ("tweet_deleted", {"tweet_id": tweet, "user_id": ada}),
        ("tweet_deleted", {"tweet_id": tweet, "user_id": eve}),
    ]


async def test_to_delete_again_is_a_success_at_a_position_past_the_deletion(
    write: httpx.AsyncClient, reader: StubReader, event_log: EventLog
) -> None:
    """Nothing is written for what is provably gone. What is gone cannot be liked or replied to any more."""
    ada = await create_user(write)
    tweet = await create_tweet(write, ada)
    deleted = await write.request("DELETE", f"/tweets/{tweet}", json={"user_id": ada})
    before = len(entries(event_log))
    reader.position = int(deleted.headers["X-Log-Position"]) + 1
    again = await write.request("DELETE", f"/tweets/{tweet}", json={"user_id": ada})
    assert (again.status_code, again.headers["X-Log-Position"]) == (200, str(reader.position))
    for path, body in (
        (f"/tweets/{tweet}/like", {}),
        ("/tweets", {"content": "hi", "user_id": ada, "in_reply_to_id": tweet}),
    ):
        answer = await write.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (404, "tweet_not_found")
    assert len(entries(event_log)) == before


@pytest.mark.parametrize("path", ["/tweets/1", "/tweets/1/like", "/tweets/1/retweet"])
@pytest.mark.parametrize("body", [None, {}, {"user_id": None}, {"user_id": "1"}, {"user_id": 1, "x": 1}])
async def test_nothing_is_taken_back_anonymously(
    write: httpx.AsyncClient, event_log: EventLog, path: str, body: dict[str, object] | None
) -> None:
    """An anonymous reaction is nobody's to undo."""
    answer = await write.request("DELETE", path, json=body)
    code = "validation_error" if body and body["user_id"] is not None else "user_id_missing"
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert entries(event_log) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"username": "ADA", "email": "other@example.org"}, "username_taken"),
        ({"username": "bob", "email": "ADA@EXAMPLE.ORG"}, "email_taken"),
    ],
)
async def test_names_and_emails_are_unique_in_any_case(
    write: httpx.AsyncClient, event_log: EventLog, body: dict[str, str], code: str
) -> None:
    """409, and nothing is written."""
    await create_user(write)
    answer = await write.post("/users", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert len(entries(event_log)) == 1


async def test_of_many_who_want_a_name_at_once_one_gets_it(write: httpx.AsyncClient, event_log: EventLog) -> None:
    """Within one batch too."""
    bodies = [{"username": "ada", "email": f"ada{number}@example.org"} for number in range(20)]
    answers = await asyncio.gather(*(write.post("/users", json=body) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 19
    assert len(entries(event_log)) == 1


@pytest.mark.parametrize(
    ("route", "subject", "code"),
    [
        ("POST /tweets/{id}/like", "tweets", "tweet_not_found"),
        ("POST /tweets/{id}/retweet", "tweets", "tweet_not_found"),
        ("DELETE /tweets/{id}/like", "tweets", "tweet_not_found"),
        ("DELETE /tweets/{id}/retweet", "tweets", "tweet_not_found"),
        ("POST /users/{id}/follow", "users", "user_not_found"),
    ],
)
async def test_what_provably_does_not_exist_is_a_404_and_no_event(
    write: httpx.AsyncClient, reader: StubReader, event_log: EventLog, route: str, subject: str, code: str
) -> None:
    """The read service had applied the log past the id. With a reader that is behind, the projection decides."""
    ada = await create_user(write)
    absent = ada - 1
    method, path = route.format(id=absent).split()
    reader.position = ada
    answer = await write.request(method, path, json={"user_id": ada})
    assert (answer.status_code, answer.json()["code"]) == (404, code)
    assert f"/{subject}/{absent}" in reader.requests
    assert len(entries(event_log)) == 1
    reader.position = absent - 1
    answer = await write.request(method, path, json={"user_id": ada})
    assert answer.status_code == 200
    assert len(entries(event_log)) == 2


@pytest.mark.parametrize("above", [1, 4096 * 3_600_000])
async def test_an_id_above_the_head_is_a_404_whoever_is_silent(
    write: httpx.AsyncClient, reader: StubReader, event_log: EventLog, above: int
) -> None:
    """The append itself proves it."""
    ada = await create_user(write)
    reader.is_mute = True
    for path, code in [
        (f"/tweets/{ada + above}/like", "tweet_not_found"),
        (f"/users/{ada + above}/follow", "user_not_found"),
    ]:
        answer = await write.post(path, json={"user_id": ada})
        assert (answer.status_code, answer.json()["code"]) == (404, code)
    answer = await write.post("/tweets", json={"content": "hello", "user_id": ada + above})
    assert (answer.status_code, answer.json()["code"]) == (404, "user_not_found")
    assert len(entries(event_log)) == 1


@pytest.mark.usefixtures("unhurried")
async def test_many_likes_of_one_unknown_tweet_ask_the_reader_once(
    write: httpx.AsyncClient, reader: StubReader
) -> None:
    """And not again once it is known to exist."""
    head = await create_user(write)
    reader.views[f"/tweets/{head - 1}"] = {"user_id": head}
    await asyncio.gather(*(write.post(f"/tweets/{head - 1}/like") for _ in range(20)))
    await write.post(f"/tweets/{head - 1}/like")
    assert reader.requests == [f"/tweets/{head - 1}"]


@pytest.mark.usefixtures("unhurried")
async def test_the_author_comes_from_the_read_service(
    write: httpx.AsyncClient, reader: StubReader, event_log: EventLog
) -> None:
    """Asked once for several tweets in a few seconds."""
    user_id = user_of_another_writer(event_log)
    reader.views[f"/users/{user_id}"] = view_of(user_id)
    for _ in range(3):
        answer = await write.post("/tweets", json={"content": "hello", "user_id": user_id})
        assert answer.json()["user"] == view_of(user_id)
    assert reader.requests == [f"/users/{user_id}"]


async def test_a_reader_that_has_stalled_is_asked_again(
    write: httpx.AsyncClient, reader: StubReader, event_log: EventLog
) -> None:
    """More questions at once than there are connections, none of them answered; later ones are."""
    user_id = user_of_another_writer(event_log)
    reader.is_mute = True
    likes = (write.post(f"/tweets/{user_id - number}/like") for number in range(2 * CONNECTIONS_MAX))
    # Some find the log too slow where the machine is busy; their places must come back just so.
    assert {answer.status_code for answer in await asyncio.gather(*likes)} <= {200, 503}
    reader.is_mute = False
    reader.views[f"/users/{user_id}"] = view_of(user_id)
    for _ in range(10):
        answer = await write.post("/tweets", json={"content": "hello", "user_id": user_id})
        if answer.json()["user"] is not None:
            return
    raise AssertionError("the read service answers, and is never asked")


async def test_a_tweet_is_written_even_when_nobody_can_show_its_author(
    write: httpx.AsyncClient, reader: StubReader, event_log: EventLog
) -> None:
    """Durable before pretty: ``user`` is null."""
    user_id = user_of_another_writer(event_log)
    reader.is_mute = True
    before = time.monotonic()
    answer = await write.post("/tweets", json={"content": "hello", "user_id": user_id})
    assert time.monotonic() - before < PROMPT_SECONDS
    assert (answer.status_code, answer.json()["user"]) == (201, None)


BAD_IDS = ["0", "-1", "1.0", "+1", "1_0", "%201", "x", "%EF%BC%91", str(POSITION_MAX + 1), str(2**63), "9" * 400]


@pytest.mark.parametrize("bad_id", BAD_IDS)
async def test_a_path_that_holds_no_id_is_a_422(write: httpx.AsyncClient, event_log: EventLog, bad_id: str) -> None:
    """Never a 500, never an event."""
    for path in (f"/tweets/{bad_id}/like", f"/tweets/{bad_id}/retweet", f"/users/{bad_id}/follow"):
        answer = await write.post(path, json={"user_id": 1})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error"), path
    for path in (f"/tweets/{bad_id}", f"/tweets/{bad_id}/like", f"/tweets/{bad_id}/retweet"):
        answer = await write.request("DELETE", path, json={"user_id": 1})
        assert (answer.status_code, answer.json()["code"]) == (422, "validation_error"), path
    assert entries(event_log) == []


@pytest.mark.parametrize(
    ("status", "code", "body"),
    [
        (400, "bad_json", b"{"),
        (400, "bad_json", b"nonsense"),
        (400, "bad_json", b"\xff\xfe{\x00}\x00"),
        (400, "bad_json", b'{"content": "\\ud800", "user_id": 1}'),
        (400, "bad_json", b"[" * 60_000),
        (413, "body_too_large", b'"' + b"x" * 10_000_000 + b'"'),
        (422, "validation_error", b"null"),
        (422, "validation_error", b"[]"),
        (422, "validation_error", b'"content"'),
        (422, "validation_error", b"{}"),
        (400, "bad_json", b'{"content": "x", "user_id": 1e400}'),
        (422, "validation_error", b'{"content": "x", "user_id": ' + b"9" * 4_000 + b"}"),
        (422, "validation_error", b'{"content": "a\\u0000", "user_id": 1}'),
        (422, "validation_error", b'{"content": {"a": []}, "user_id": 1}'),
        (422, "validation_error", b'{"content": "x", "user_id": 1, "likes": 9}'),
    ],
)
async def test_a_bad_body_is_refused_in_the_one_error_shape(
    write: httpx.AsyncClient, event_log: EventLog, status: int, code: str, body: bytes
) -> None:
    """Never a 500, never an event."""
    answer = await write.post("/tweets", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"detail", "code"}
    assert entries(event_log) == []


async def test_nobody_follows_themselves(write: httpx.AsyncClient, event_log: EventLog) -> None:
    """Nor stops to."""
    for method in ("POST", "DELETE"):
        answer = await write.request(method, "/users/5/follow", json={"user_id": 5})
        assert (answer.status_code, answer.json()["code"]) == (422, "cannot_follow_self")
    assert entries(event_log) == []


async def test_a_lost_answer_is_not_noticed_by_the_client(redis_server: RedisServer, event_log: EventLog) -> None:
    """The append ran, its answer was lost: 201 with the id that it had, and one event."""
    async with FaultyNetwork(redis_server.port) as network, write_service(network.url) as write:
        await create_user(write, "bob")
        network.faults.append(Fault.LOSE_ANSWER)
        user_id = await create_user(write)
    assert [name for name, _ in entries(event_log)] == ["user_created"] * 2
    assert event_log.head() == user_id


async def test_an_answer_lost_for_good_is_called_unknown(redis_server: RedisServer, event_log: EventLog) -> None:
    """503 with a code of its own, within a second: the client must look before it tries again."""
    async with FaultyNetwork(redis_server.port) as network, write_service(network.url) as write:
        await create_user(write, "bob")
        network.faults.extend([Fault.LOSE_ANSWER] * 1000)
        before = time.monotonic()
        answer = await write.post("/users", json=ADA)
        assert time.monotonic() - before < PROMPT_SECONDS
        assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")
        assert "Retry-After" in answer.headers
    assert len(entries(event_log)) == 2


async def test_writes_fail_fast_while_redis_is_down_and_recover_without_a_restart(fresh_redis: RedisServer) -> None:
    """503 with Retry-After within a second, and nothing of it is written later."""
    log = EventLog(fresh_redis.url)
    start(log)
    async with write_service(fresh_redis.url) as write:
        await create_user(write)
        fresh_redis.kill()
        for number in range(3):
            before = time.monotonic()
            answer = await write.post("/users", json={"username": f"x{number}", "email": f"x{number}@example.org"})
            assert time.monotonic() - before < PROMPT_SECONDS
            assert answer.status_code == 503
            assert "Retry-After" in answer.headers
        fresh_redis.start()
        await create_user(write, "bob")
    assert entries(log) == [("user_created", {"username": "ada"}), ("user_created", {"username": "bob"})]
    log.close()


async def test_readiness_tells_what_is_missing(fresh_redis: RedisServer) -> None:
    """Unreachable, not started, halted: each with its reason; a started log is ready. Alarms stand on the metrics."""

    async def reason() -> str | None:
        answer = await client.get("/healthz/ready")
        return None if answer.status_code == 200 else str(answer.json()["detail"])

    async def becomes(condition: Callable[[str | None], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition(await reason()):  # only the service knows when it has looked
                await asyncio.sleep(0.01)

    def shown() -> dict[str, float | None]:
        return {name: metric(client, f"log_{name}") for name in ("writable", "halted")}

    log = EventLog(fresh_redis.url)
    async with write_service(fresh_redis.url) as client:
        assert shown() == {"writable": 0, "halted": 0}
        assert await reason() == "the log has not been started: is the db-updater running?"
        start(log)
        await becomes(lambda text: text is None)
        assert shown() == {"writable": 1, "halted": 0}
        log.halt("for a test", 0)
        await becomes(lambda text: text == "the log is halted: for a test")
        assert shown() == {"writable": 0, "halted": 1}
        fresh_redis.kill()
        await becomes(lambda text: text is not None and text.startswith("the log cannot be reached"))
    log.close()


def test_a_graceful_stop_answers_what_it_has_taken(
    redis_server: RedisServer, event_log: EventLog, tmp_path: Path
) -> None:
    """SIGTERM while requests are under way: each has its answer, what was acknowledged is there, the exit is clean."""
    environment = {"REDIS_URL": redis_server.url, "EMAIL_HASH_KEY": EMAIL_HASH_KEY, "READ_SERVICE_URL": NOBODY_LISTENS}
    service = ServiceProcess("write", "services.write", tmp_path, environment)
    try:
        service.start()
        service.wait_ready()
        statuses = asyncio.run(_stop_in_the_middle(service, event_log))
    finally:
        service.close()
    assert service.log.count("Traceback") == 0
    assert set(statuses) <= {201}
    assert len(entries(event_log)) == len(statuses)


async def _stop_in_the_middle(service: ServiceProcess, event_log: EventLog) -> list[int]:
    """Send users until SIGTERM closes the door; the statuses of the answers."""
    async with httpx.AsyncClient(base_url=service.url, timeout=10) as client:

        async def create(number: int) -> int | None:
            try:
                body = {"username": f"u{number}", "email": f"u{number}@example.org"}
                return (await client.post("/users", json=body)).status_code
            except httpx.TransportError:  # it was no longer taken
                return None

        tasks = [asyncio.create_task(create(number)) for number in range(200)]
        await asyncio.to_thread(eventually, lambda: len(entries(event_log)) > 10)
        code = await asyncio.to_thread(service.terminate)
        assert code == 0
        return [status for status in await asyncio.gather(*tasks) if status is not None]


@pytest.mark.usefixtures("event_log")
def test_a_password_is_in_no_log(redis_server: RedisServer, tmp_path: Path) -> None:
    """Whatever is wrong with the request, at the most talkative level."""
    environment = {
        "REDIS_URL": redis_server.url,
        "EMAIL_HASH_KEY": EMAIL_HASH_KEY,
        "READ_SERVICE_URL": NOBODY_LISTENS,
        "LOG_LEVEL": "debug",
    }
    service = ServiceProcess("write", "services.write", tmp_path, environment)
    try:
        service.start()
        service.wait_ready()
        for body in ({**ADA, "password": "s3cret-pass"}, {"username": "?", "email": "?", "password": "s3cret-pass"}):
            answer = service.http.post("/users", json=body)
            assert "s3cret-pass" not in answer.text
        assert "auth_not_required" in service.log
        for secret in ("s3cret-pass", "ada@example.org", EMAIL_HASH_KEY):
            assert secret not in service.log
    finally:
        service.close()
