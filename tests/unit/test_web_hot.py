"""What is answered without the framework passes all that every request passes."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Message, Scope
from structlog.testing import capture_logs

from services.common.errors import ClientError, OutcomeUnknown
from services.common.ids import POSITION_MAX
from services.common.web import RequestLimits
from services.common.web.body import BODY_BYTES_MAX
from services.common.web.hot import (
    AnswerNow,
    Begin,
    Body,
    Completed,
    Finish,
    HotRoute,
    HotRoutes,
    RequestHeaders,
    WholeAnswer,
)
from tests.support.web_app import Settings, small_app

pytestmark = pytest.mark.anyio

HOT = b'"hot"'
BUG = 13


def _answer(query: bytes, headers: RequestHeaders, note_id: int) -> tuple[WholeAnswer, int] | None:
    if query or b"x-unusual" in headers:
        return None
    if note_id == BUG:
        raise ValueError("a bug")
    return WholeAnswer(200, b"content-length: %d\r\ncontent-type: application/json\r\n" % len(HOT), HOT), 9


ROUTES: HotRoutes[AnswerNow] = HotRoutes("GET", HotRoute("/notes/{note_id}", _answer))


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of an app in this process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://small")


async def test_a_hot_route_answers_in_place_of_the_framework() -> None:
    """With all that every answer carries, at the position that it has set."""
    async with client_of(small_app(hot=ROUTES, extra_headers=lambda: ((b"x-stale-seconds", b"3"),))) as client:
        answer = await client.get("/notes/1", headers={"X-Request-Id": "mine"})
    assert answer.content == HOT
    assert dict(answer.headers) == {
        "content-length": str(len(HOT)),
        "content-type": "application/json",
        "x-request-id": "mine",
        "x-stale-seconds": "3",
        "x-log-position": "9",
    }


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/notes/1", []),
        ("GET", "/notes/0", []),
        ("GET", f"/notes/{POSITION_MAX + 1}", []),
        ("GET", "/notes/+1", []),
        ("GET", "/notes/1_0", []),
        ("GET", "/notes/\u0663", []),
        ("GET", "/notes/", []),
        ("GET", "/notes", []),
        ("GET", "/notes/1/star", []),
        ("GET", "/other/1", []),
        ("GET", "/notes/1", [("X-Unusual", "1")]),
        ("GET", "/notes/1", [("Accept", "a"), ("Accept", "b")]),
    ],
)
async def test_what_is_unusual_is_left_to_the_framework(method: str, path: str, headers: list[tuple[str, str]]) -> None:
    """Nothing has been done to it then: the answer is the one that there would be without hot routes."""
    answers = []
    for routes in (ROUTES, HotRoutes("GET")):
        async with client_of(small_app(hot=routes)) as client:
            answer = await client.request(method, path, headers=[*headers, ("X-Request-Id", "mine")])
            answers.append((answer.status_code, answer.headers.raw, answer.content))
    assert answers[0] == answers[1]
    assert answers[0][2] != HOT


async def test_a_hot_route_that_fails_is_logged_and_left_to_the_framework() -> None:
    """Whose answer may be good, and whose error is the one that clients know."""
    with capture_logs() as logs:
        async with client_of(small_app(hot=ROUTES)) as client:
            answer = await client.get(f"/notes/{BUG}")
    assert answer.json() == {"id": BUG, "text": ""}
    assert [line["event"] for line in logs] == ["hot_route_failed"]


async def test_hot_requests_are_counted_by_their_route() -> None:
    """Once, also where the framework answers them."""
    registry = CollectorRegistry()
    async with client_of(small_app(hot=ROUTES, registry=registry)) as client:
        for path in ("/notes/1", "/notes/1", f"/notes/{BUG}"):
            await client.get(path)

    labels = {"route": "/notes/{note_id}", "method": "GET", "status": "200"}
    assert registry.get_sample_value("http_requests_total", labels) == 3


async def test_hot_requests_are_limited() -> None:
    """Those of an address that asks too often are refused, and every answer says what is left."""
    registry = CollectorRegistry()
    settings = Settings(address_requests_per_second=1, redis_url="redis://127.0.0.1:1")
    limits = RequestLimits("small", settings, registry, account=lambda _: None)
    async with limits, client_of(small_app(hot=ROUTES, registry=registry, limits=limits)) as client:
        answers = [await client.get("/notes/1") for _ in range(12)]
    assert answers[0].content == HOT
    assert "RateLimit" in answers[0].headers
    assert answers[-1].status_code == 429


async def test_what_the_framework_answers_in_the_end_counts_once() -> None:
    """The hot route has been counted, and then left it to the framework."""
    registry = CollectorRegistry()
    settings = Settings(address_requests_per_second=10, redis_url="redis://127.0.0.1:1")
    limits = RequestLimits("small", settings, registry, account=lambda _: None)
    async with limits, client_of(small_app(hot=ROUTES, registry=registry, limits=limits)) as client:
        answers = [await client.get("/notes/1?q=left") for _ in range(2)]
    left = [int(answer.headers["RateLimit"].partition("r=")[2].partition(";")[0]) for answer in answers]
    assert left[0] - left[1] == 1


async def test_hot_requests_are_shed() -> None:
    """Above what may be under way at once."""
    async with client_of(small_app(hot=ROUTES, in_flight_max=0)) as client:
        answer = await client.get("/notes/1")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")


async def test_pages_of_other_origins_may_read_hot_answers() -> None:
    """The headers that allow it are added on the way out."""
    async with client_of(small_app(hot=ROUTES, cors_origins=["http://web.example"])) as client:
        answer = await client.get("/notes/1", headers={"Origin": "http://web.example"})
    assert answer.content == HOT
    assert answer.headers["Access-Control-Allow-Origin"] == "http://web.example"


async def test_a_server_does_not_answer_a_page_past_what_completes_its_answers() -> None:
    """Asked before a task is made, the app leaves pages of other origins to its middlewares, and answers all else."""
    app = small_app(hot=ROUTES, cors_origins=["http://web.example"])
    scope: Scope = {"type": "http", "method": "GET", "path": "/notes/1", "query_string": b"", "headers": []}
    page: Scope = {**scope, "headers": [(b"origin", b"http://web.example")]}
    assert app.answer_now(page) is None
    assert app.answer_now(scope) is not None


class Writes:
    """Hot writes of notes that wait until the test ends them."""

    def __init__(self) -> None:
        self.waiting: list[Finish] = []
        self.responses: list[Completed | None] = []
        self.routes: HotRoutes[Begin] = HotRoutes("POST", HotRoute("/notes", self.begin))

    def begin(self, _headers: RequestHeaders, body: Body, _id: int, finish: Finish) -> bool:
        """A ``Begin`` that leaves an empty object to the framework, and refuses a list."""
        if body == b"{}":
            return False
        if body == b"[]":
            raise ClientError(403, "no_lists", "No lists")
        self.waiting.append(finish)
        return True


JSON = (b"content-type", b"application/json")
CREATED = WholeAnswer(201, b"content-length: 2\r\ncontent-type: application/json\r\n", b"{}")


def posted(*headers: tuple[bytes, bytes], **changes: str | bytes) -> Scope:
    """A request with a note, as JSON unless there are other headers."""
    scope: Scope = {"type": "http", "method": "POST", "path": "/notes", "raw_path": b"/notes", "query_string": b""}
    scope["headers"], scope["client"] = list(headers or [JSON]), ("192.0.2.1", 1)
    return {**scope, **changes}


async def served(app: FastAPI, scope: Scope, body: bytes) -> tuple[int, bytes]:
    """Status and body, as the server gets them for a request that it makes a task for."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


async def test_a_hot_write_is_answered_when_it_is_finished() -> None:
    """With all that every answer carries, at its own position, and counted then."""
    writes, registry = Writes(), CollectorRegistry()
    app = small_app(hot_writes=writes.routes, registry=registry)
    assert app.begin(posted(), b'{"text": "x"}', writes.responses.append)
    assert writes.responses == []
    writes.waiting[0](CREATED, 77)
    ((answer, lines),) = [response for response in writes.responses if response is not None]
    assert answer == CREATED
    assert b"x-log-position: 77\r\n" in lines
    labels = {"route": "/notes", "method": "POST", "status": "201"}
    assert registry.get_sample_value("http_requests_total", labels) == 1


@pytest.mark.parametrize("error", [OutcomeUnknown("cut"), ValueError("a bug")])
async def test_a_hot_write_that_fails_is_answered_as_its_route_would(error: Exception) -> None:
    """By a task that knows the failure: nothing is done twice, it is counted once, and never shed."""
    writes, registry = Writes(), CollectorRegistry()
    app = small_app(hot_writes=writes.routes, registry=registry, in_flight_max=1)
    scope = posted()
    assert app.begin(scope, b"1", writes.responses.append)
    app.begin(posted(), b"2", writes.responses.append)
    writes.waiting[0](error, 0)
    assert app.begin(posted(), b"3", writes.responses.append)
    assert writes.responses == [None]
    with capture_logs():
        status, body = await served(app, scope, b"1")
    assert (status, b"outcome_unknown" in body) == ((503, True) if isinstance(error, OutcomeUnknown) else (500, False))
    labels = {"route": "/notes", "method": "POST", "status": str(status)}
    assert registry.get_sample_value("http_requests_total", labels) == 1
    assert len(writes.waiting) == 2


async def test_a_refusal_at_once_is_answered_so_too() -> None:
    """A token, for example, that is not good."""
    writes = Writes()
    app = small_app(hot_writes=writes.routes)
    scope = posted()
    assert app.begin(scope, b"[]", writes.responses.append)
    assert writes.responses == [None]
    assert (await served(app, scope, b"[]"))[0] == 403


@pytest.mark.parametrize(
    ("scope", "body"),
    [
        (posted(), b"{}"),
        (posted(), b"x" * (BODY_BYTES_MAX + 1)),
        (posted(query_string=b"x=1"), b"1"),
        (posted(path="/other"), b"1"),
        (posted(method="PUT"), b"1"),
        (posted((b"host", b"x")), b"1"),
        (posted((b"content-type", b"text/plain")), b"1"),
        (posted(JSON, (b"a", b"1"), (b"a", b"2")), b"1"),
    ],
)
async def test_a_hot_write_that_is_unusual_is_declined(scope: Scope, body: bytes) -> None:
    """And nothing has been done to it."""
    writes = Writes()
    assert not small_app(hot_writes=writes.routes).begin(dict(scope), body, writes.responses.append)
    assert (writes.waiting, writes.responses) == ([], [])


async def test_hot_writes_under_way_count_as_requests_in_flight() -> None:
    """As many as there may be; the next one is for the way that sheds it."""
    writes = Writes()
    app = small_app(hot_writes=writes.routes, in_flight_max=1)
    assert app.begin(posted(), b"1", writes.responses.append)
    assert not app.begin(posted(), b"2", writes.responses.append)
    writes.waiting[0](CREATED, 1)
    assert app.begin(posted(), b"3", writes.responses.append)


async def test_a_hot_write_that_is_declined_counts_once_against_its_limit() -> None:
    """And so does one that is refused at once."""
    settings = Settings(address_requests_per_second=10, redis_url="redis://127.0.0.1:1")
    limits = RequestLimits("small", settings, CollectorRegistry(), account=lambda _: None)
    writes = Writes()
    async with limits:
        app = small_app(hot_writes=writes.routes, limits=limits)
        for body in (b"{}", b"[]"):
            scope = posted()
            app.begin(scope, body, writes.responses.append)
            await served(app, scope, body)
        app.begin(posted(), b"1", writes.responses.append)
        writes.waiting[0](CREATED, 1)
    assert writes.responses[-1] is not None
    assert b'ratelimit: "small-address";r=97;' in writes.responses[-1][1]
