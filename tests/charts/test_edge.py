"""What the edge does with requests, tried on a real nginx."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.charts import tools
from tests.charts.edge import OK, TRIES, Edge, Received, Service, silent_port
from tests.support.ports import HOST
from tests.support.wait import eventually

UNAVAILABLE = {"detail": "The service cannot do this at the moment; try again later.", "code": "unavailable"}
KIB = 1024


@dataclass(frozen=True, slots=True)
class Stage:
    """The edge and the two services behind it."""

    edge: Edge
    read: Service
    write: Service

    @property
    def http(self) -> httpx.Client:
        """A client of the edge."""
        return self.edge.http

    def served_by(self, method: str, path: str) -> str:
        """The name of the service that got this request."""
        before = len(self.read.received), len(self.write.received)
        assert self.http.request(method, path).status_code == httpx.codes.OK
        after = len(self.read.received), len(self.write.received)
        return {(1, 0): "read", (0, 1): "write"}[after[0] - before[0], after[1] - before[1]]

    def raw(self, request: bytes) -> bytes:
        """What the edge answers to these bytes, up to the end of the connection."""
        with socket.create_connection((HOST, self.edge.port), timeout=10) as connection:
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                return stream.read()


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Start an edge in front of two services that answer 200."""
    stages: list[Stage] = []

    def make(trusted: str = "", gone_port: int | None = None) -> Stage:
        read, write = Service(gone_port=gone_port), Service(gone_port=gone_port)
        read.start()
        write.start()
        stage = Stage(Edge(tools.find("nginx"), tmp_path / "edge", read, write, trusted), read, write)
        stages.append(stage)
        stage.edge.start()
        stage.edge.wait_ready()
        return stage

    yield make
    for stage in stages:
        stage.http.close()
        stage.edge.close()
        stage.read.stop()
        stage.write.stop()


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """An edge that trusts no proxy."""
    return make_stage()


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("GET", "/tweets/1", "read"),
        ("HEAD", "/tweets/1", "read"),
        ("POST", "/tweets", "write"),
        ("DELETE", "/users/1/follow", "write"),
        ("PUT", "/tweets", "write"),
        ("PATCH", "/users/me", "write"),
        ("OPTIONS", "/tweets", "write"),
        ("GET", "/auth", "write"),
        ("GET", "/auth/token", "write"),
        ("POST", "/auth/token", "write"),
        ("GET", "/authors", "read"),
    ],
)
def test_the_method_decides_except_below_auth(stage: Stage, method: str, path: str, service: str) -> None:
    """GET and HEAD go to the read service, the rest and /auth to the write service."""
    assert stage.served_by(method, path) == service


def test_what_services_ask_each_other_is_not_for_the_outside(stage: Stage) -> None:
    """However the path is written."""
    for path in (b"/internal/existence?tweets=1", b"/%69nternal/existence", b"//internal/x", b"/tweets/../internal/x"):
        answer = stage.raw(b"GET %s HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n" % path)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b'"code":"not_found"' in answer
    assert not stage.read.received


def test_a_request_arrives_as_it_was_sent(stage: Stage) -> None:
    """Path, query, body and the client's headers are passed on untouched, and so is the answer."""
    answer = stage.http.post("/a%2Fb//c?x=%20&y", content=b'{"a": 1}', headers={"X-Min-Position": "7"})
    [request] = stage.write.received
    assert (request.target, request.body) == ("/a%2Fb//c?x=%20&y", b'{"a": 1}')
    assert request.headers["x-min-position"] == "7"
    assert answer.headers["X-Served"] == "yes"


def test_an_answer_of_a_service_is_not_replaced(stage: Stage) -> None:
    """A 503 that a service gave keeps its body: only our own errors are ours."""
    body = b'{"detail":"no","code":"halted"}'
    head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: %d\r\n\r\n" % len(body)
    stage.write.answer = lambda _request: head + body
    answer = stage.http.post("/tweets")
    assert (answer.status_code, answer.content, answer.headers["Retry-After"]) == (503, body, "5")


def test_a_sane_request_id_is_kept_and_another_one_replaced(stage: Stage) -> None:
    """What goes into logs is what the services would accept, too."""
    for given, is_kept in (("abc-1", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ('"', False)):
        stage.http.get("/", headers={"X-Request-Id": given})
        passed_on = stage.read.received[-1].headers["x-request-id"]
        assert (passed_on == given) is is_kept
        assert passed_on


def test_a_body_of_64_kib_passes_and_a_byte_more_does_not(stage: Stage) -> None:
    """The limit is that of the services, and the refusal looks like theirs."""
    assert stage.http.post("/tweets", content=b"x" * 64 * KIB).status_code == httpx.codes.OK
    refused = stage.http.post("/tweets", content=b"x" * (64 * KIB + 1))
    assert refused.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
    assert refused.json() == {"detail": "The body is larger than 65536 bytes", "code": "body_too_large"}
    assert refused.headers["X-Request-Id"]


def test_a_body_of_unknown_length_is_refused_when_it_grows_too_large(stage: Stage) -> None:
    """Chunks are counted, and none of them reaches a service."""
    refused = stage.http.post("/tweets", content=(b"x" * KIB for _ in range(65)))
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert stage.write.received == []


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"GET /_problem HTTP/1.1\r\nHost: x\r\n\r\n", 404, "not_found"),
        (b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "method_not_allowed"),
        (b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 40_000), 414, "uri_too_long"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: %s\r\n\r\n" % (b"x" * 40_000), 431, "headers_too_large"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"),
    ],
)
def test_what_nginx_refuses_itself_has_the_one_error_shape(
    stage: Stage, request_bytes: bytes, status: int, code: str
) -> None:
    """No page of HTML, whatever is wrong with a request."""
    closing = request_bytes.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    head, _, body = stage.raw(closing).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Content-Type: application/json\r\n" in head
    assert set(json.loads(body)) == {"detail", "code"}
    assert json.loads(body)["code"] == code


def test_a_service_that_is_gone_is_a_503_that_says_when_to_come_back(stage: Stage) -> None:
    """Nothing was sent, so a POST may safely be repeated: the plain code says so."""
    stage.read.stop()
    stage.write.stop()
    for answer in (stage.http.get("/tweets/1"), stage.http.post("/tweets")):
        assert (answer.status_code, answer.json(), answer.headers["Retry-After"]) == (503, UNAVAILABLE, "1")
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Request-Id"]


def test_a_service_that_is_back_is_used_at_once(stage: Stage) -> None:
    """A failure is not remembered: the next pod behind the name may be fine."""
    stage.read.stop()
    assert stage.http.get("/tweets/1").status_code == httpx.codes.SERVICE_UNAVAILABLE
    stage.read.start()
    assert stage.http.get("/tweets/1").status_code == httpx.codes.OK


def test_a_post_that_breaks_off_is_sent_once_and_its_outcome_is_unknown(stage: Stage) -> None:
    """It may have been done, so it is neither sent again nor called undone."""
    stage.write.answer = lambda _request: None
    answer = stage.http.post("/tweets", json={})
    assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")
    assert len(stage.write.received) == 1


def test_a_post_that_is_not_answered_in_time_is_sent_once(stage: Stage) -> None:
    """As when the connection breaks."""
    is_over = threading.Event()

    def never_answer(_request: Received) -> None:
        assert is_over.wait(10)

    stage.write.answer = never_answer
    answer = stage.http.post("/tweets", json={})
    is_over.set()
    assert (answer.status_code, answer.json()["code"]) == (503, "outcome_unknown")
    assert len(stage.write.received) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pods_that_are_gone_cost_no_answer_while_one_is_there(make_stage: Callable[..., Stage], method: str) -> None:
    """For a while their name leads there too, where nobody answers. Nothing was sent, so a POST may go on."""
    with silent_port() as gone_port:
        stage = make_stage(gone_port=gone_port)
        for _ in range(TRIES):
            assert stage.http.request(method, "/tweets").status_code == httpx.codes.OK
        assert len(stage.read.received + stage.write.received) == TRIES


def test_a_get_that_breaks_off_is_tried_again(stage: Stage) -> None:
    """Readers that are killed cost nobody an answer while another one is there."""
    stage.read.answer = lambda _request: OK if len(stage.read.received) == TRIES else None
    assert stage.http.get("/tweets/1").status_code == httpx.codes.OK
    stage.read.answer = lambda _request: None
    answer = stage.http.get("/tweets/1")
    assert (answer.status_code, answer.json()) == (503, UNAVAILABLE)
    assert len(stage.read.received) == 2 * TRIES


def test_connections_to_the_services_are_kept(stage: Stage) -> None:
    """A request does not pay for a new connection."""
    for _ in range(50):
        stage.http.get("/")
    assert stage.read.connections < 5


def test_the_client_is_who_talks_to_us_unless_a_trusted_proxy_says_otherwise(make_stage: Callable[..., Stage]) -> None:
    """What a client claims of its own address is not passed on."""
    stage = make_stage()
    stage.http.get("/", headers={"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"})
    [request] = stage.read.received
    assert request.headers["x-forwarded-for"] == HOST
    assert "forwarded" not in request.headers


def test_the_last_address_that_no_trusted_proxy_vouches_for_is_the_client(make_stage: Callable[..., Stage]) -> None:
    """The client may have written whatever it likes before the proxies appended the truth."""
    stage = make_stage(f"set_real_ip_from {HOST};\nset_real_ip_from 10.0.0.0/8;\n")
    stage.http.get("/", headers={"X-Forwarded-For": "6.6.6.6, 9.9.9.9, 10.1.2.3"})
    assert stage.read.received[0].headers["x-forwarded-for"] == "9.9.9.9"


def test_a_stopping_edge_finishes_what_it_serves(stage: Stage) -> None:
    """SIGQUIT, which is the image's stop signal, waits for requests under way."""
    go_on = threading.Event()

    def answer_late(_request: Received) -> bytes:
        assert go_on.wait(10)
        return OK

    stage.read.answer = answer_late
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(stage.http.get("/").status_code))
    client.start()
    eventually(lambda: stage.read.received)
    stage.edge._signal(signal.SIGQUIT)
    eventually(lambda: not stage.edge.answers_probe("/healthz"))
    go_on.set()
    client.join(10)
    assert answers == [httpx.codes.OK]
    assert stage.edge.wait() == 0


def test_the_edge_has_started_when_both_services_can_be_reached(stage: Stage) -> None:
    """Answered or refused: only silence, as of a network policy that does not know us yet, means that it has not."""
    assert stage.edge.answers_probe("/startup")
    stage.read.stop()
    assert stage.edge.answers_probe("/startup")
    stage.write.stop()
    assert stage.edge.answers_probe("/startup")


@pytest.mark.parametrize("silent", ["read", "write"])
def test_the_edge_has_not_started_while_a_service_is_silent(stage: Stage, silent: str) -> None:
    """Its readiness is not asked then, and it gets no requests that would only run into a time-out."""
    is_over = threading.Event()

    def never_answer(_request: Received) -> None:
        assert is_over.wait(20)

    getattr(stage, silent).answer = never_answer
    assert not stage.edge.answers_probe("/startup")
    assert stage.edge.answers_probe("/healthz")
    is_over.set()


def test_a_request_is_logged_as_a_line_of_json(stage: Stage) -> None:
    """With what one needs to find it in the services' logs."""
    stage.http.get("/tweets/1", headers={"X-Request-Id": "find-me"})
    log = stage.edge.directory / "access.log"
    [line] = eventually(lambda: log.read_text().splitlines())
    entry = json.loads(line)
    assert (entry["request_id"], entry["path"], entry["status"], entry["sent_to"]) == (
        "find-me",
        "/tweets/1",
        200,
        "read",
    )
