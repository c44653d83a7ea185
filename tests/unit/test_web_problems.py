"""Bad input of every kind gets a 4xx in the one error shape: never a 500, never an echo."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.common.web.body import BODY_BYTES_MAX
from services.common.web.problems import VALIDATION_PROBLEMS_MAX, describe
from tests.support.web_app import POSITION, small_app

pytestmark = pytest.mark.anyio
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The small service; it keeps nothing between requests."""
    return small_app()


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the small service, in process."""
    async with client_of(app) as client:
        yield client


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """A client of an app, in process."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://small")


def problem(response: httpx.Response, status: int, code: str) -> Any:
    """The detail of a response that must be this problem, in the one shape."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["x-log-position"]) > 0
    assert response.headers["x-request-id"]
    assert response.json().keys() == {"detail", "code"}
    return response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"text=hello",
        b" ",
        b'{"text": "a\x00b"}',
        b'{"text": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"text": "\xed\xa0\x80"}',
        b'{"text": "\xff"}',
        b'{"text": NaN}',
        b'{"number": -Infinity}',
        b'{"number": 1e999}',
        b'{"number": ' + b"9" * 5000 + b"}",
        b"[" * 30_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        '{"text": "hello"}'.encode("utf-16"),
        '{"text": "hello"}'.encode("utf-32"),
        b'\xef\xbb\xbf{"text": "hello"}',
    ],
)
async def test_what_is_no_strict_json_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    """Python's parser takes several of these; what it makes of them would fail where it is stored or echoed."""
    problem(await client.post("/notes", content=body, headers=JSON), 400, "bad_json")


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        17,
        None,
        {"text": 5},
        {"text": None},
        {"text": ["a"]},
        {"text": "a", "number": "many"},
        {"text": "a", "number": 2**63},
        {"text": "a", "number": 10**400},
        {"text": "a", "number": -1},
        {"text": "a", "number": 1.5},
        {"text": "a", "author": "nobody"},
        {"text": "a", "more": 1},
    ],
)
async def test_json_of_the_wrong_type_is_refused(client: httpx.AsyncClient, body: object) -> None:
    """The detail is a list with FastAPI's three keys for each thing that is wrong."""
    detail = problem(await client.post("/notes", content=json.dumps(body), headers=JSON), 422, "validation_error")
    assert all(each.keys() == {"type", "loc", "msg"} for each in detail)


async def test_validation_never_echoes_what_was_sent(client: httpx.AsyncClient) -> None:
    """Not the value, not an e-mail, not part of one, not a name the client made up."""
    body = {"text": ["secret-1"], "author": "secret-2@secret-3 .example", "secret-4": 1, "number": "secret-5"}
    response = await client.post("/notes", json=body)
    detail = problem(response, 422, "validation_error")
    assert len(detail) == 4
    assert "secret" not in response.text
    assert {"type": "extra_forbidden", "loc": ["body"], "msg": "Extra inputs are not permitted"} in detail


def test_a_long_list_of_errors_is_cut() -> None:
    """64 KiB of wrong list items must not become megabytes of answer."""
    one = {"type": "int_type", "loc": ("body", 1), "msg": "Input should be a valid integer", "input": "x"}
    assert len(describe([one] * 1000)) == VALIDATION_PROBLEMS_MAX


@pytest.mark.parametrize(
    "content_type", [None, "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "\xff"]
)
async def test_a_body_that_is_not_declared_json_is_refused(client: httpx.AsyncClient, content_type: str | None) -> None:
    """What `curl -d` and `fetch` send by themselves; the answer says what to do."""
    headers = {} if content_type is None else {b"content-type": content_type.encode("latin-1")}
    response = await client.post("/notes", content=b'{"text": "a"}', headers=headers)
    assert "application/json" in problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json", "APPLICATION/JSON ; charset=utf-8"])
async def test_json_may_be_declared_with_parameters(client: httpx.AsyncClient, content_type: str) -> None:
    """Media types know no case, and a charset is common."""
    response = await client.post("/notes", content=b'{"text": "a"}', headers={"Content-Type": content_type})
    assert response.status_code == 201, response.text


async def test_an_empty_body_is_none_whatever_its_type(client: httpx.AsyncClient) -> None:
    """`curl -X POST -d ''` declares a form; a route whose body is optional takes it as none."""
    for headers in ({}, JSON, {"Content-Type": "application/x-www-form-urlencoded"}):
        assert (await client.post("/notes/1/star", headers=headers)).status_code == 200
    problem(await client.post("/notes", headers=JSON), 422, "validation_error")


async def test_a_body_may_be_as_large_as_the_limit_and_no_larger(client: httpx.AsyncClient) -> None:
    """One byte decides, with a declared length and without."""
    largest = b'{"text":"' + b"a" * (BODY_BYTES_MAX - 11) + b'"}'
    for content in (largest, _chunks(largest)):
        assert (await client.post("/notes", content=content, headers=JSON)).status_code == 201
    for content in (largest + b" ", _chunks(largest + b" ")):
        problem(await client.post("/notes", content=content, headers=JSON), 413, "body_too_large")


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/notes/abc", 422, "validation_error"),
        ("/notes/0", 422, "validation_error"),
        ("/notes/-1", 422, "validation_error"),
        ("/notes/1.5", 422, "validation_error"),
        ("/notes/%00", 422, "validation_error"),
        ("/notes/%ED%A0%80", 422, "validation_error"),
        ("/notes/" + "9" * 400, 404, "note_not_found"),
        ("/notes/" + "9" * 5000, 422, "validation_error"),
        ("/notes/99999999999999999999", 404, "note_not_found"),
        ("/notes/101", 404, "note_not_found"),
        ("/notes/1/", 404, "not_found"),
        ("/notes/1/2/3", 404, "not_found"),
        ("/%ff%fe", 404, "not_found"),
    ],
)
async def test_bad_paths(client: httpx.AsyncClient, path: str, status: int, code: str) -> None:
    """Every path is answered in the one shape; none is redirected."""
    problem(await client.get(path), status, code)


@pytest.mark.parametrize("method", ["PATCH", "TRACE", "OPTIONS", "BREW"])
async def test_an_unknown_method_is_told_the_known_ones(client: httpx.AsyncClient, method: str) -> None:
    """Also those of the path's other routes, which the framework forgets."""
    response = await client.request(method, "/notes")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "DELETE, POST"
    assert (await client.head("/notes")).status_code == 405


async def test_an_operational_error_says_when_to_retry_and_nothing_else() -> None:
    """Its message names hosts and passwords; it is logged, once for many requests, and not sent."""
    with capture_logs() as logs:
        async with client_of(small_app()) as client:
            responses = [await client.get("/trouble/log") for _ in range(3)]
    assert [entry["event"] for entry in logs] == ["request_unavailable"]
    for response in responses:
        assert "password" not in problem(response, 503, "log_unavailable")
        assert response.headers["retry-after"] == "1"


async def test_an_unknown_outcome_is_not_told_to_try_again(client: httpx.AsyncClient) -> None:
    """Trying again may do it twice."""
    assert "not known" in problem(await client.get("/trouble/unknown"), 503, "outcome_unknown")


async def test_a_bug_is_logged_with_its_traceback_and_the_service_goes_on(client: httpx.AsyncClient) -> None:
    """The client learns nothing of the inside."""
    with capture_logs() as logs:
        response = await client.get("/trouble/bug")
    assert "secret" not in problem(response, 500, "internal_error")
    assert [(entry["event"], type(entry["exc_info"])) for entry in logs] == [("request_failed", ValueError)]
    assert (await client.get("/notes/1")).status_code == 200


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all the examples."""
    with asyncio.Runner() as runner:
        yield runner


@example(b'{"text": "\\ud83d"}')
@given(
    st.binary() | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(lambda it: json.dumps(it).encode())
)
def test_no_body_makes_an_internal_error(app: FastAPI, runner: asyncio.Runner, body: bytes) -> None:
    """Whatever arrives, the answer is a 4xx in the one shape (or the created note)."""

    async def post() -> httpx.Response:
        async with client_of(app) as client:
            return await client.post("/notes/1/star", content=body, headers=JSON)

    response = runner.run(post())
    assert response.status_code in (200, 400, 422)
    assert int(response.headers["x-log-position"]) == POSITION
