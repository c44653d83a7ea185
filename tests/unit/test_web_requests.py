"""What every request passes and every answer carries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message
from structlog.testing import capture_logs

from services.common.errors import LogForked
from services.common.telemetry import create_registry, version
from tests.support.web_app import POSITION, small_app

pytestmark = pytest.mark.anyio


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of an app in this process; it raises what the app raises."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://small")


class Clock:
    """A position that is one further each time it is read."""

    def __init__(self) -> None:
        self.position = 0

    def __call__(self) -> int:
        """Move on."""
        self.position += 1
        return self.position


async def test_a_read_says_the_position_from_before_its_look_up() -> None:
    """What it returns is at least that new; a later position would promise what it may not have seen."""
    clock = Clock()
    app = small_app(position=clock)

    @app.get("/moving")
    async def moving() -> int:
        return clock()

    async with client_of(app) as client:
        response = await client.get("/moving")
    assert (response.headers["x-log-position"], response.json()) == ("1", 2)


async def test_a_write_says_the_position_from_after_its_work() -> None:
    """So that a read with it sees the write."""
    clock = Clock()
    app = small_app(position=clock)

    @app.post("/moving")
    async def moving() -> int:
        return clock()

    async with client_of(app) as client:
        response = await client.post("/moving")
    assert (response.json(), response.headers["x-log-position"]) == (1, "2")


async def test_a_route_may_set_the_position_of_its_answer_and_of_its_errors() -> None:
    """With set_position, which an error raised later keeps, or with a header of its own, which wins."""
    async with client_of(small_app()) as client:
        assert (await client.get("/notes/1")).headers.get_list("x-log-position") == ["7"]
        assert (await client.get("/notes/101")).headers.get_list("x-log-position") == ["7"]
        assert (await client.delete("/notes")).headers.get_list("x-log-position") == ["9"]


async def test_position_zero_is_a_position() -> None:
    """An empty replica says 0 and does not look again."""
    clock = Clock()
    clock.position = -1
    async with client_of(small_app(position=clock)) as client:
        assert (await client.get("/nowhere")).headers["x-log-position"] == "0"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("PUT", "/notes"),
        ("POST", "/notes"),
        ("GET", "/trouble/bug"),
        ("GET", "/trouble/log"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/healthz/ready"),
    ],
)
async def test_every_answer_carries_position_request_id_and_the_extra_headers(method: str, path: str) -> None:
    """Those of errors, of documentation and of health checks too."""
    app = small_app(extra_headers=lambda: ((b"x-data-age-seconds", b"12"),))
    with capture_logs():
        async with client_of(app) as client:
            response = await client.request(method, path)
    assert response.headers["x-log-position"] == str(POSITION)
    assert response.headers["x-data-age-seconds"] == "12"
    assert response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("abc-1.2_3", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        ("a b", False),
        ("a\tb", False),
        ("é", False),
    ],
)
async def test_a_sane_request_id_is_kept_and_any_other_replaced(given: str, is_kept: bool) -> None:
    """It goes into logs and headers."""
    async with client_of(small_app()) as client:
        response = await client.get("/", headers={b"x-request-id": given.encode()})
    assert (response.headers["x-request-id"] == given) == is_kept


async def test_made_request_ids_differ() -> None:
    """Within a process and between two."""
    made = set()
    for app in (small_app(), small_app()):
        async with client_of(app) as client:
            made |= {(await client.get("/")).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 6


async def test_head_answers_where_get_does() -> None:
    """The same headers; the server leaves out the body (test_web_server has it over a socket)."""
    async with client_of(small_app()) as client:
        head, get = await client.head("/notes/1?q=a"), await client.get("/notes/1?q=a")
    assert head.status_code == 200
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.headers["x-log-position"] == "7"


async def test_requests_are_counted_by_route_method_and_status() -> None:
    """By the route's template, never by the path itself; two apps in a process count apart."""
    registry, other = create_registry(), create_registry()
    small_app(registry=other)
    with capture_logs():
        async with client_of(small_app(registry=registry)) as client:
            for path in ("/notes/1", "/notes/2", "/notes/101", "/nowhere", "/trouble/bug"):
                await client.get(path)
            await client.post("/notes", json={})

    def count(name: str, route: str, method: str, status: str) -> float | None:
        return registry.get_sample_value(name, {"route": route, "method": method, "status": status})

    assert count("http_requests_total", "/notes/{note_id}", "GET", "200") == 2
    assert count("http_requests_total", "/notes/{note_id}", "GET", "404") == 1
    assert count("http_requests_total", "unmatched", "GET", "404") == 1
    assert count("http_requests_total", "/trouble/{kind}", "GET", "500") == 1
    assert count("http_requests_total", "/notes", "POST", "422") == 1
    assert count("http_request_seconds_count", "/notes/{note_id}", "GET", "200") == 2
    assert (count("http_request_seconds_sum", "/notes/{note_id}", "GET", "200") or 0) > 0
    assert "route=" not in str(list(other.collect()))


async def test_operational_errors_are_counted_by_code() -> None:
    """An alert stands on it."""
    registry = create_registry()
    with capture_logs():
        async with client_of(small_app(registry=registry)) as client:
            await client.get("/trouble/log")
    assert registry.get_sample_value("operational_errors_total", {"code": "log_unavailable"}) == 1


async def test_more_than_can_be_under_way_is_shed_and_health_checks_are_not() -> None:
    """At once, to be tried again; a process that is killed for being busy would leave more to the others."""
    registry = create_registry()
    app = small_app(registry=registry, in_flight_max=1)
    with capture_logs() as logs:
        async with client_of(app) as client:
            under_way = asyncio.create_task(client.get("/until-draining"))
            while not logs:
                await asyncio.sleep(0)
            shed = [await client.get("/notes/1"), await client.post("/notes", json={"text": "late"})]
            live = await client.get("/healthz/live")
            app.state.lifecycle.drain()
            answered = await under_way
            after = await client.get("/notes/1")
    assert [(one.status_code, one.json()["code"], one.headers["retry-after"]) for one in shed] == [
        (503, "overloaded", "1")
    ] * 2
    assert (live.status_code, answered.status_code, after.status_code) == (200, 200, 200)
    assert registry.get_sample_value("operational_errors_total", {"code": "overloaded"}) == 2


async def test_readiness_is_its_own_health_check() -> None:
    """Not ready is no reason to be killed."""
    async with client_of(small_app(readiness=lambda: "backfilling at 5 of 9")) as client:
        assert (await client.get("/healthz/live")).json() == {"status": "ok"}
        assert (await client.get("/healthz/startup")).status_code == 200
        ready = await client.get("/healthz/ready")
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
    assert ready.json() == {"detail": "backfilling at 5 of 9", "code": "not_ready"}


async def test_a_broken_invariant_is_answered_and_stops_the_process() -> None:
    """Once; readiness is false from then on, and the reason is logged with its traceback."""
    stops: list[str] = []
    app = small_app(stop=lambda: stops.append("stop"))
    with capture_logs() as logs:
        async with client_of(app) as client:
            response = await client.get("/trouble/forked")
            await client.get("/trouble/forked")
            ready = await client.get("/healthz/ready")
    assert (response.status_code, response.json()["code"], ready.status_code) == (500, "internal_error", 503)
    assert stops == ["stop"]
    assert isinstance(app.state.lifecycle.failure, LogForked)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("invariant_broken", "critical")] * 2


async def test_an_answer_that_breaks_half_way_is_not_completed() -> None:
    """The exception goes on to the server, which cuts the connection."""
    async with client_of(small_app()) as client:
        with pytest.raises(ValueError, match="no second half"):
            await client.get("/half")


async def test_the_index_names_what_the_service_can_be_asked() -> None:
    """A newcomer starts at /."""
    async with client_of(small_app()) as client:
        index = (await client.get("/")).json()
        assert (index["service"], index["version"]) == ("small", version())
        assert {"method": "POST", "href": "/notes", "title": "Create Note"} in index["links"]
        for path in (index["documentation"], index["openapi"]):
            assert (await client.get(path)).status_code == 200


async def test_a_client_that_leaves_in_the_middle_of_its_body_reaches_no_route() -> None:
    """Half a request must not be carried out; it is counted as 499."""
    registry = create_registry()
    app = small_app(registry=registry)
    messages: Iterator[Message] = iter(
        [{"type": "http.request", "body": b'{"te', "more_body": True}, {"type": "http.disconnect"}]
    )
    sent: list[Message] = []

    async def receive() -> Message:
        return next(messages)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/notes", "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    assert sent == []
    labels = {"route": "unmatched", "method": "POST", "status": "499"}
    assert registry.get_sample_value("http_requests_total", labels) == 1


async def test_pages_of_other_origins_may_ask_where_that_is_set() -> None:
    """The browser asks first; answers, refusals too, may be read with all that a client needs of their headers."""
    origin = "https://app.example.org"
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    app = small_app(cors_origins=[origin])
    async with client_of(app) as client:
        wanted = {"Access-Control-Request-Headers": "authorization,content-type,idempotency-key,x-min-position"}
        allowed = await client.options("/notes", headers={**preflight, **wanted})
        refused = await client.options("/notes", headers={**preflight, "Origin": "https://evil.example.org"})
        answers = [
            await client.get(path, headers={"Origin": origin}) for path in ("/notes/1", "/notes/101", "/nowhere")
        ]
        foreign = await client.get("/notes/1", headers={"Origin": "https://evil.example.org"})
    assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, origin)
    assert {"GET", "POST", "PATCH", "DELETE"} <= set(allowed.headers["access-control-allow-methods"].split(", "))
    assert (refused.status_code, refused.json()["code"]) == (400, "cors_refused")
    for status, question in (("200", allowed), ("400", refused)):
        assert question.headers["x-log-position"]
        labels = {"route": "preflight", "method": "OPTIONS", "status": status}
        assert app.state.registry.get_sample_value("http_requests_total", labels) == 1
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == origin
        exposed = set(answer.headers["access-control-expose-headers"].split(", "))
        assert {"X-Log-Position", "X-Request-Id", "ETag", "Link", "Retry-After", "RateLimit"} <= exposed
        assert answer.headers["x-log-position"]
    assert "access-control-allow-origin" not in foreign.headers


async def test_without_origins_no_page_may_ask() -> None:
    """No header of CORS at all: a browser then keeps the answer to itself."""
    async with client_of(small_app()) as client:
        answer = await client.get("/notes/1", headers={"Origin": "https://app.example.org"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
