"""What a client writes stays a value: one request is one line of each log, and no new series of a metric."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from tests.security.conftest import Fronted, edge_before
from tests.support.guarded import Guarded
from tests.support.process import ServiceProcess
from tests.support.raw_http import exchange, get, request

FORGED: Final = b'{"event":"forged","level":"info"}'
PATHS: Final = (
    b"/%0a" + FORGED,
    b"/%0d%0a" + FORGED,
    b"/%22%7d%0a" + FORGED,
    b"/%22,%22event%22:%22forged%22%7d",
    b"/%e2%80%a8" + FORGED,
    b"/%c2%85" + FORGED,
    b"/%1b%5b2J%1b%5b31mred",
    b"/%07%7f",
    b"/%ff%fe" + FORGED,
    b"/%ed%a0%80",
    b"/caf%c3%a9",
    b"/users/by-username/%0a" + FORGED,
    b"/users/1/tweets?limit=%0a" + FORGED,
    b"/" + b"a" * 4000,
)
HEADERS: Final = (
    b"User-Agent: " + FORGED,
    b"Referer: http://x/" + FORGED,
    b"X-Forwarded-For: " + FORGED,
    b"Authorization: Bearer " + FORGED,
    b"Idempotency-Key: \xe2\x80\xa9" + FORGED,
    b"X-Min-Position: \xe2\x80\xa8" + FORGED,
    b"Content-Type: application/json\t" + FORGED,
)
BODY: Final = json.dumps(
    {"username": "a\n" + FORGED.decode() + "\x1b[2J", "email": "a@b\r\n" + FORGED.decode()}
).encode()
CONTROLS: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


@pytest.fixture(scope="module")
def talkative(nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """A system that logs every request, behind the edge; the second of each kind logs for people."""
    directory: Path = tmp_path_factory.mktemp("talkative")
    system = Guarded(directory, readers=2, writers=2, environment={"LOG_LEVEL": "debug"})
    for service in (system.readers[1], system.writers[1]):
        service.environment["LOG_FORMAT"] = "console"
    with system, edge_before(system, nginx, directory) as edge:
        yield Fronted(system, edge)


def attack(port: int) -> list[str]:
    """Ask with everything in every place; the request ids."""
    requests = [get(path) for path in PATHS] + [get(b"/users/1", header) for header in HEADERS]
    length, media_type = b"Content-Length: %d" % len(BODY), b"Content-Type: application/json"
    requests.append(request(b"POST", b"/users", length, media_type, body=BODY))
    ids = [uuid4().hex for _ in requests]
    for request_id, sent in zip(ids, requests, strict=True):
        exchange(port, sent.replace(b"Host: x", b"Host: x\r\nX-Request-Id: " + request_id.encode()))
    exchange(port, get(b"/", b'X-Request-Id: forged","event":"forged'))
    return ids


def services(system: Guarded, log_format: str) -> list[ServiceProcess]:
    """A read and a write service that log so."""
    number = ["json", "console"].index(log_format)
    return [system.readers[number], system.writers[number]]


def test_each_request_is_one_object_in_the_log(talkative: Fronted) -> None:
    """Whatever its path, its headers and its body hold: nothing of it is a line or a field of its own."""
    for service in services(talkative.system, "json"):
        ids = attack(service.port)
        lines: list[dict[str, Any]] = [json.loads(line) for line in service.log.split("\n")[:-1]]
        assert all({"event", "level", "timestamp", "service"} <= set(line) for line in lines)
        requests = [line["request_id"] for line in lines if line["event"] == "request"]
        assert {request_id: requests.count(request_id) for request_id in ids} == dict.fromkeys(ids, 1)
        assert "forged" not in {line["event"] for line in lines}
        assert not [request_id for request_id in requests if "forged" in request_id]
        assert not CONTROLS.search(service.log)


def test_each_request_is_one_line_for_people(talkative: Fronted) -> None:
    """And nothing in it talks to their terminal."""
    for service in services(talkative.system, "console"):
        ids = attack(service.port)
        log = service.log
        assert not CONTROLS.search(log)
        lines = [line for line in log.split("\n") if " request " in line]
        for request_id in ids:
            assert len([line for line in lines if re.search(rf"request_id={request_id}\b", line)]) == 1, request_id
        assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[", line) for line in log.split("\n")[:-1]), log


def test_each_request_is_one_object_in_the_log_of_the_edge(talkative: Fronted) -> None:
    """In JSON that every parser reads: no byte of it is outside of ASCII."""
    ids = attack(talkative.edge.port)
    content = (talkative.edge.directory / "access.log").read_bytes()
    assert content.isascii()
    lines: list[dict[str, Any]] = [json.loads(line) for line in content.splitlines()]
    known = [line["request_id"] for line in lines]
    assert {request_id: known.count(request_id) for request_id in ids} == dict.fromkeys(ids, 1)
    assert {line["event"] for line in lines} == {"request"}
    assert not [line for line in lines if "forged" in line["request_id"]]


METHODS: Final = (
    *(b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"COPY", b"LOCK", b"MKCOL", b"MOVE"),
    *(b"PROPFIND", b"PROPPATCH", b"SEARCH", b"UNLOCK", b"BIND", b"REBIND", b"ACL", b"REPORT", b"MERGE", b"NOTIFY"),
    *(b"SUBSCRIBE", b"PURGE", b"MKCALENDAR", b"LINK", b"UNLINK", b"SOURCE", b"BREW"),
)


def test_no_client_makes_a_series_of_a_metric(talkative: Fronted) -> None:
    """Labels are routes, methods and statuses of ours: nobody fills the memory of Prometheus with names of his."""
    for service in services(talkative.system, "json"):
        for method in METHODS:
            for path in (b"/a/" + method, b"/users/1", b"/tweets", b"/%22%7d%0a"):
                exchange(service.port, request(method, path, b"Content-Length: 0"))
        samples = re.findall(r"^http_requests_total\{(.*)\} ", service.metrics(), re.MULTILINE)
        labels = [dict(re.findall(r'(\w+)="([^"]*)"', sample)) for sample in samples]
        declared = set(service.http.get("/openapi.json").json()["paths"])
        assert {found["route"] for found in labels} <= declared | {"unmatched", "/openapi.json", "/docs"}
        assert {found["method"] for found in labels} <= {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}
        assert all(re.fullmatch(r"[1-5]\d\d", found["status"]) for found in labels)
