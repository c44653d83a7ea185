"""The server over real sockets: how it starts, how it stops, and bodies that never end."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.ports import HOST
from tests.support.process import ServiceProcess
from tests.support.wait import eventually

MEBIBYTE = 1024 * 1024


class Small(ServiceProcess):
    """The small service as a process."""

    def __init__(self, directory: Path, **environment: str) -> None:
        super().__init__("small", "tests.support.web_app", directory, environment)

    @property
    def records(self) -> list[dict[str, Any]]:
        """What it logged."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    @property
    def events(self) -> list[str]:
        """The names of what it logged, in order."""
        return [record["event"] for record in self.records]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """A small service that goes on running: do not end it."""
    service = Small(tmp_path_factory.mktemp("small"))
    service.start()
    try:
        service.wait_ready()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """One that trusts this host, and a network, as proxies."""
    service = Small(tmp_path_factory.mktemp("behind-proxy"), TRUSTED_PROXIES=f"{HOST}, 10.0.0.0/8")
    service.start()
    try:
        service.wait_ready()
        yield service
    finally:
        service.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Small]:
    """A small service of the test's own, not started."""
    service = Small(tmp_path)
    try:
        yield service
    finally:
        service.close()


def answer_to(service: Small, request: bytes) -> bytes:
    """Send some bytes, go on holding the connection open, and read until the other side closes it."""
    with socket.create_connection((HOST, service.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while received := connection.recv(65536):
            answer += received
        return answer


def test_what_is_there_at_the_start_is_not_looked_through_for_garbage(small: Small) -> None:
    """The modules and the app are most of the objects; to look through them all stalls every request meanwhile."""
    assert small.http.get("/frozen").json() > 50_000


def test_sigterm_turns_readiness_off_and_lets_requests_finish_before_the_lifespan_closes(own: Small) -> None:
    """The request in flight sees its own process not ready; nothing it uses is closed under it; the exit is clean."""
    own.start()
    own.wait_ready()
    with ThreadPoolExecutor() as pool:
        in_flight = pool.submit(own.http.get, "/until-draining")
        eventually(lambda: "waiting" in own.events)
        code = own.terminate()
        response = in_flight.result()
    assert (response.status_code, response.json()) == (200, {"readiness_status": 503})
    assert own.events[-4:] == ["waiting", "answering", "lifespan_closed", "stopped"]
    assert code == 0


def test_a_second_sigterm_does_not_cut_the_closing_short(own: Small, tmp_path: Path) -> None:
    """Ctrl-C on `twitter dev` reaches a part twice: from the terminal and from its parent."""
    own.environment["CLOSE_WHEN"] = str(tmp_path / "close")
    own.start()
    own.wait_ready()
    os.kill(own.pid, signal.SIGINT)
    eventually(lambda: "lifespan_closing" in own.events)
    os.kill(own.pid, signal.SIGTERM)
    (tmp_path / "close").touch()
    assert own.wait() == 0
    assert own.events[-2:] == ["lifespan_closed", "stopped"]


def test_a_broken_invariant_stops_the_process(own: Small) -> None:
    """Its client gets an answer, and whoever runs the process a code that says it failed."""
    own.start()
    own.wait_ready()
    response = own.http.get("/trouble/forked")
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert own.wait() == 1
    assert own.events[-3:] == ["invariant_broken", "lifespan_closed", "stopped"]


def test_a_part_that_fails_while_the_service_starts_stops_it_too(own: Small) -> None:
    """A follower's thread may be quicker than the rest; what was opened is closed all the same."""
    own.environment["FAIL_AT_START"] = "1"
    own.start()
    assert own.wait() == 1
    assert "invariant_broken" in own.events
    assert own.events[-2:] == ["lifespan_closed", "stopped"]


def test_a_refused_start_is_one_line(own: Small) -> None:
    """With the hint of the error in it, and no traceback; the port was never open."""
    own.environment["REFUSE_START"] = "1"
    own.start()
    assert own.wait() == 1
    assert own.events == ["metrics_listening", "start_refused"]
    assert own.records[-1]["error"] == "the volume is locked: stop the other owner"
    assert "Traceback" not in own.log


def test_a_taken_port_is_named_before_anything_starts(own: Small, small: Small) -> None:
    """In a line that says which variable to set."""
    own.environment["PORT"] = str(small.port)
    own.start()
    assert own.wait() == 2
    assert f"PORT: cannot listen on {HOST}:{small.port}" in own.log
    assert "Traceback" not in own.log
    assert "lifespan_closed" not in own.events


def test_a_declared_body_that_is_too_large_is_refused_before_it_is_sent(small: Small) -> None:
    """The answer comes although not one byte of the body has, and the connection is closed."""
    answer = answer_to(small, b"POST /notes HTTP/1.1\r\nHost: small\r\nContent-Length: 10000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer
    assert b'"code":"body_too_large"' in answer
    assert b"x-log-position: 42" in answer


def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(small: Small) -> None:
    """It need not end for that, and it is not read for ever."""
    chunk = b"%x\r\n" % MEBIBYTE + b" " * MEBIBYTE + b"\r\n"
    answer = answer_to(small, b"POST /notes HTTP/1.1\r\nHost: small\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in answer


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_client_that_sends_ten_megabytes_reads_its_refusal(small: Small, is_declared: bool) -> None:
    """Though the server has stopped reading long before: no reset connection instead of an answer."""
    pieces = [b" " * MEBIBYTE] * 10
    content = b"".join(pieces) if is_declared else iter(pieces)
    response = small.http.post("/notes", content=content)
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


def test_half_an_answer_is_never_taken_for_a_whole_one(small: Small) -> None:
    """The connection is cut, and the reason logged once with its traceback."""
    with pytest.raises(httpx.RemoteProtocolError):
        small.http.get("/half")
    assert sum("no second half" in record.get("exception", "") for record in small.records) == 1


def test_head_has_no_body_on_the_wire(small: Small) -> None:
    """And the same length as GET."""
    answer = answer_to(small, b"HEAD /notes/1 HTTP/1.1\r\nHost: small\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: 18" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_metrics_are_on_a_port_of_their_own(small: Small) -> None:
    """And not on the API's."""
    small.http.get("/notes/1")
    assert (
        'http_requests_total{method="GET",route="/notes/{note_id}",status="200"}' in httpx.get(small.metrics_url).text
    )
    assert small.http.get("/metrics").status_code == 404


def test_no_request_is_logged_above_debug(small: Small) -> None:
    """A line a request would cost more than the request."""
    before = len(small.records)
    small.http.get("/notes/1")
    small.http.get("/nowhere")
    small.http.post("/notes", content=b"{")
    answer_to(small, b"NO HTTP AT ALL\r\n\r\n")
    assert len(small.records) == before


@pytest.mark.parametrize("request_line", [b"NO HTTP AT ALL", b"GET /\xff HTTP/1.1", b"GET / HTTP/9.9"])
def test_what_is_no_http_is_refused_in_the_one_shape(small: Small, request_line: bytes) -> None:
    """Not in the server's own words; the connection is closed, as nobody knows where the next request begins."""
    head, _, body = answer_to(small, request_line + b"\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-length: %d" % len(body) in head
    assert json.loads(body) == {"detail": "This is not valid HTTP", "code": "bad_http"}


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ([], HOST),
        (["198.51.100.9"], "198.51.100.9"),
        (["1.2.3.4, 198.51.100.9"], "198.51.100.9"),
        (["1.2.3.4, 198.51.100.9, 10.1.2.3"], "198.51.100.9"),
        (["1.2.3.4", "198.51.100.9", "10.1.2.3"], "198.51.100.9"),
        (["2001:db8::1"], "2001:db8::/64"),
    ],
)
def test_behind_a_trusted_proxy_the_client_is_the_rightmost_address_that_is_not_trusted(
    behind_proxy: Small, forwarded: list[str], address: str
) -> None:
    """What is left of it anybody may have written."""
    headers = [("X-Forwarded-For", value) for value in forwarded]
    assert behind_proxy.http.get("/client", headers=headers).json() == {"address": address}


def test_without_trusted_proxies_nobody_may_say_who_the_client_is(small: Small) -> None:
    """Or every limit by address could be stepped around."""
    assert small.http.get("/client", headers={"X-Forwarded-For": "198.51.100.9"}).json() == {"address": HOST}
