"""What is answered without the framework passes all that every request passes."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.types import Scope
from structlog.testing import capture_logs

from services.common.ids import POSITION_MAX
from services.common.web import RequestLimits
from services.common.web.hot import AnswerNow, HotRoute, HotRoutes, RequestHeaders, WholeAnswer
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
