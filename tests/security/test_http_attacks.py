"""Attacks in HTTP itself, on both services and through the real edge: refused or harmless, and nobody else is hurt."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import httpx
import pytest

from tests.security.conftest import Fronted
from tests.support.ports import HOST
from tests.support.raw_http import Answer, Exchange, exchange, get, request
from tests.support.wait import eventually

DOORS: Final = ("read", "write", "edge")
JSON: Final = b"Content-Type: application/json"
CHUNKED: Final = b"Transfer-Encoding: chunked"
SMUGGLED_BODY: Final = b'{"content": "smuggled", "user_id": %d}'


def post(*headers: bytes, body: bytes = b"{}") -> bytes:
    """A request to write a tweet; its body is none."""
    return request(b"POST", b"/tweets", JSON, *headers, body=body)


def tweeting(user_id: int) -> bytes:
    """A good request to be smuggled."""
    body = SMUGGLED_BODY % user_id
    return request(b"POST", b"/tweets", JSON, b"Content-Length: %d" % len(body), body=body)


CHUNKS: Final = b"2\r\n{}\r\n0\r\n\r\n"
LENGTH: Final = b"Content-Length: 2"

REFUSED: Final = {
    "a length and chunks": post(b"Content-Length: 4", CHUNKED, body=b"0\r\n\r\nSMUGGLED"),
    "chunks and a length": post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\nSMUGGLED"),
    "the same length twice": post(LENGTH, LENGTH),
    "two lengths": post(b"Content-Length: 0", LENGTH, body=b"SMUGGLED"),
    "a list of lengths": post(b"Content-Length: 2, 2"),
    "a length with a sign": post(b"Content-Length: +2"),
    "a negative length": post(b"Content-Length: -2"),
    "a length beyond 64 bits": post(b"Content-Length: " + b"9" * 30),
    "a hexadecimal length": post(b"Content-Length: 0x2"),
    "an empty length": post(b"Content-Length:"),
    "a length with a space": post(b"Content-Length: 2 2"),
    "a folded header": post(b"X-A: a\r\n b", LENGTH),
    "a folded transfer encoding": post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\nSMUGGLED"),
    "a space before the colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\nSMUGGLED"),
    "an unknown transfer encoding": post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\nSMUGGLED"),
    "identity": post(b"Transfer-Encoding: identity", LENGTH),
    "chunked, but not last": post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\nSMUGGLED"),
    "chunked twice": post(CHUNKED, CHUNKED, body=CHUNKS),
    "a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\nSMUGGLED"),
    "a chunk beyond 64 bits": post(CHUNKED, body=b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
    "a negative chunk": post(CHUNKED, body=b"-2\r\n{}\r\n0\r\n\r\n"),
    "a chunk with 0x": post(CHUNKED, body=b"0x2\r\n{}\r\n0\r\n\r\n"),
    "a bare CR": b"GET / HTTP/1.1\r\nHost: x\rX-A: b\r\n\r\n",
    "NUL in the path": get(b"/tweets/1\0"),
    "NUL in a header": get(b"/", b"X-A: a\0b"),
    "a space in the path": get(b"/tweets/1 x"),
    "a space in a header's name": get(b"/", b"X A: b"),
    "a header before the first": b"GET / HTTP/1.1\r\n Host: x\r\n\r\n",
    "a line break in the request id": get(b"/", b"X-Request-Id: a\rSet-Cookie: b"),
    "two hosts": get(b"/", b"Host: y"),
    "no host in the target": b"GET http:///tweets HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tunnel": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method without end": b"A" * 9000 + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    "an address without end": get(b"/" + b"a" * 200_000),
    "a header without end": get(b"/", b"X-A: " + b"a" * 400_000),
    "headers without end": get(b"/", *[b"X-%d: a" % number for number in range(40_000)]),
}
"""Refused at every door: 4xx, 501, or a closed connection. A parser that reads past the attack finds SMUGGLED."""

BORDERLINE: Final = {
    "a chunk with an extension": post(CHUNKED, body=b"2;a=b\r\n{}\r\n0\r\n\r\n"),
    "an extension without end": post(CHUNKED, body=b"2;" + b"a" * 100_000 + b"\r\n{}\r\n0\r\n\r\n"),
    "chunks with bare LF": post(CHUNKED, body=b"2\n{}\n0\n\n"),
    "a length as a trailer": post(CHUNKED, body=b"2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n"),
    "many trailers": post(CHUNKED, body=b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"),
    "a tab before chunked": post(b"Transfer-Encoding:\tchunked", body=CHUNKS),
    "chunks in HTTP/1.0": b"POST /tweets HTTP/1.0\r\n" + JSON + b"\r\n" + CHUNKED + b"\r\n\r\n" + CHUNKS,
    "lines with bare LF": b"GET / HTTP/1.1\nHost: x\n\n",
    "a GET with a body": get(b"/", b"Content-Length: 8") + b"SMUGGLED",
    "a DELETE with a body": request(b"DELETE", b"/nothing", b"Content-Length: 8", body=b"SMUGGLED"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a host that is none": b"GET / HTTP/1.1\r\nHost: a b<>\r\n\r\n",
    "a line without colon": get(b"/", b"nonsense"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/2 by name": b"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
    "an upgrade to HTTP/2": get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA"),
    "an upgrade to a WebSocket": get(b"/", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "100-continue": post(b"Expect: 100-continue", LENGTH),
    "an unknown expectation": post(b"Expect: 999-continue", LENGTH),
    "a range": get(b"/", b"Range: bytes=0-1"),
    "a query without end": get(b"/users/1/tweets?" + b"a=b&" * 1500),
    "many tags": get(b"/users/1/tweets", b"If-None-Match: " + b'"a",' * 1000),
}
"""What servers differ about: here one answer that is no 5xx of ours, or none, and the next request gets its own."""


@pytest.fixture
def victim(fronted: Fronted) -> int:
    """Whoever a smuggled request would write for."""
    ada, _, _ = fronted.system.cast
    return ada.id


@pytest.fixture(autouse=True)
def _nothing_breaks(fronted: Fronted) -> Iterator[None]:
    """Whatever is done, no service meets a bug, and everybody else is served."""
    yield
    assert fronted.errors_logged() == []
    for port in fronted.ports.values():
        assert httpx.get(f"http://{HOST}:{port}/", timeout=30, trust_env=False).status_code == 200


def attack_all(fronted: Fronted, door: str, attacks: dict[str, bytes], victim: int) -> dict[str, Exchange]:
    """Carry each of them out at a door. Nothing may have been appended afterwards."""
    head, smuggled = fronted.system.log.head(), tweeting(victim)
    exchanges = {
        name: exchange(fronted.ports[door], attack.replace(b"SMUGGLED", smuggled)) for name, attack in attacks.items()
    }
    assert fronted.system.log.head() == head
    return exchanges


@pytest.mark.parametrize("door", DOORS)
def test_what_is_malformed_or_ambiguous_is_refused(fronted: Fronted, door: str, victim: int) -> None:
    """One answer in the one error shape, or none, and the connection is closed: nothing behind it is read."""
    exchanges = attack_all(fronted, door, REFUSED, victim)
    assert not {name: e.statuses for name, e in exchanges.items() if len(e.answers) > 1 or not _is_refused(e)}
    assert [name for name, e in exchanges.items() if e.goes_on and e.answers[0].status != 400] == []
    assert [name for name, e in exchanges.items() if not all(map(_has_shape, e.answers))] == []


def _is_refused(found: Exchange) -> bool:
    return all(400 <= answer.status < 500 or answer.status == 501 for answer in found.answers)


def _has_shape(answer: Answer) -> bool:
    return set(json.loads(answer.body)) == {"detail", "code"}


@pytest.mark.parametrize("door", DOORS)
def test_where_servers_differ_both_sides_still_agree(fronted: Fronted, door: str, victim: int) -> None:
    """At most one answer, and whoever sends the next request on the connection gets its own."""
    attacks = {
        **BORDERLINE,
        "a GET with a body": get(b"/", b"Content-Length: %d" % len(tweeting(victim))) + b"SMUGGLED",
    }
    length = b"Content-Length: %d" % len(tweeting(victim))
    attacks["a DELETE with a body"] = request(b"DELETE", b"/nothing", length, body=b"SMUGGLED")
    exchanges = attack_all(fronted, door, attacks, victim)
    assert not {name: e.statuses for name, e in exchanges.items() if len(e.answers) > 1}
    answers = {name: e.answers[0] for name, e in exchanges.items() if e.answers}
    assert not {name: a.status for name, a in answers.items() if a.status >= 500 and a.status not in {501, 505}}
    assert [name for name, a in answers.items() if a.status >= 400 and not _has_shape(a)] == []
    assert len(answers) > len(attacks) // 2


HARMLESS_PATHS: Final = {
    "a slash too many": (b"//tweets/%d", {404}),
    "up": (b"/users/../tweets/%d", {404}),
    "up, encoded": (b"/users/%%2e%%2e/tweets/%d", {404}),
    "up and away": (b"/../../../../etc/passwd", {400, 404}),
    "up and away, encoded": (b"/%2e%2e%2f%2e%2e%2fetc%2fpasswd", {400, 404}),
    "up from where GET leads elsewhere": (b"/auth/../tweets/%d", {404}),
    "down to where GET leads elsewhere": (b"/x/..%%2fauth/token", {404}),
    "an encoded letter": (b"/%%61uth/token", {404, 405}),
    "an encoded slash": (b"/tweets%%2F%d", {200}),
    "an encoded NUL": (b"/tweets/%d%%00", {400, 422}),
    "a parameter of the path": (b"/tweets/%d;a=b", {422}),
    "half an escape": (b"/tweets/%%z", {400, 422}),
    "a backslash": (b"/tweets\\%d", {404}),
    "an overlong dot": (b"/tweets/%%c0%%ae", {422}),
    "a fragment": (b"/tweets/%d#x", {200}),
    "digits that are not ours": (b"/tweets/%%D9%%A1", {422}),
    "no UTF-8": (b"/users/by-username/%%ff%%fe", {422}),
    "NUL in a query": (b"/users/1/tweets?limit=%%00", {422}),
    "the whole address": (b"http://elsewhere.example/tweets/%d", {200}),
    "another scheme": (b"gopher://elsewhere.example/tweets/%d", {200, 400}),
}


@pytest.mark.parametrize("door", ["read", "edge"])
def test_a_path_is_what_it_says(fronted: Fronted, door: str) -> None:
    """Nobody resolves dots or joins slashes, so the edge and the services never mean two things by one path."""
    _, _, tweet = fronted.system.cast
    fronted.system.wait_until_applied(tweet)
    found = {}
    for name, (path, _) in HARMLESS_PATHS.items():
        target = path.replace(b"%d", b"%d" % tweet).replace(b"%%", b"%")
        found[name] = exchange(fronted.ports[door], get(target)).statuses
    assert not {name: s for name, s in found.items() if len(s) != 1 or s[0] not in HARMLESS_PATHS[name][1]}


@pytest.mark.parametrize("door", ["write", "edge"])
def test_no_header_makes_another_method_of_a_request(fronted: Fronted, door: str, victim: int) -> None:
    """Nor another path, as some proxies and frameworks let headers do."""
    _, _, tweet = fronted.system.cast
    head = fronted.system.log.head()
    for name in (b"X-HTTP-Method-Override", b"X-HTTP-Method", b"X-Method-Override", b"X-Original-Method"):
        attack = request(b"POST", b"/tweets/%d" % tweet, name + b": DELETE", b"Content-Length: 0")
        assert exchange(fronted.ports[door], attack).statuses == [405]
    for name in (b"X-Original-URL", b"X-Rewrite-URL"):
        body = b'{"user_id": %d}' % victim
        attack = request(
            b"POST",
            b"/nothing",
            JSON,
            name + b": /tweets/%d/like" % tweet,
            b"Content-Length: %d" % len(body),
            body=body,
        )
        assert exchange(fronted.ports[door], attack).statuses == [404]
    assert fronted.system.log.head() == head


@pytest.mark.parametrize("door", DOORS)
def test_nothing_a_client_names_breaks_out_of_a_header(fronted: Fronted, door: str) -> None:
    """A request id is ours unless it is a plain one; no answer has a header that a client has made up."""
    ids = (b"a%0d%0aSet-Cookie: b", b"a\tb", b'a"b', b"a\xe2\x80\xa8b", b"a\x85b", b"<b>", b"a" * 65, b"${jndi:x}")
    for given in ids:
        (answer,) = exchange(fronted.ports[door], get(b"/", b"X-Request-Id: " + given)).answers
        assert re.fullmatch("[A-Za-z0-9._-]{1,64}", answer.headers["x-request-id"])
        assert "set-cookie" not in answer.headers
    (answer,) = exchange(fronted.ports[door], get(b"/", b"X-Request-Id: plain-1")).answers
    assert answer.headers["x-request-id"] == "plain-1"


def test_a_host_is_in_no_answer(fronted: Fronted) -> None:
    """Nor what a proxy may say of it: whoever shares a cache with others cannot poison it."""
    _, bob, _ = fronted.system.cast
    target = b"/users/%d/tweets?limit=1" % bob.id
    names = (b"X-Forwarded-Host", b"X-Forwarded-Proto", b"Forwarded", b"X-Forwarded-Prefix")
    for door in ("read", "edge"):
        attack = get(target, *(name + b": evil.example" for name in names)).replace(b"Host: x", b"Host: evil.example")
        (answer,) = exchange(fronted.ports[door], attack).answers
        assert answer.status == 200
        assert "evil" not in str(answer.headers) + answer.body.decode()


SLOW: Final = {
    "says nothing": (b"", b""),
    "never ends its head": (b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ", b"a"),
    "never ends its headers": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-A: a\r\n"),
    "never ends its body": (post(b"Content-Length: 1000", body=b"{"), b" "),
    "never ends its chunks": (post(CHUNKED, body=b"2\r\n{ \r\n"), b"1\r\n \r\n"),
    "never ends a body that nobody wants": (get(b"/", b"Content-Length: 100000"), b" "),
    "never reads": (get(b"/openapi.json") * 500, b""),
}
"""What a slow client sends at first, and then again and again."""
HEADS: Final = ("says nothing", "never ends its head", "never ends its headers")


def test_slow_clients_are_cut_off_and_nobody_waits_for_them(fronted: Fronted) -> None:
    """Each has a bounded time to send its head, its body, and to take what it is answered; others are served meanwhile.

    The edge bounds the head, and the silence between two pieces of a body, which it takes whole before it asks anybody.
    """
    cases = [(door, name) for door in ("read", "write") for name in SLOW] + [("edge", name) for name in HEADS]
    with ExitStack() as opened:
        slow = {}
        for door, name in cases:
            connection = opened.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(30)
            connection.connect((HOST, fronted.ports[door]))
            connection.setblocking(False)
            _send(connection, SLOW[name][0])
            slow[door, name] = connection
        next_drip = time.monotonic()
        served: list[int] = []

        def all_are_cut() -> bool:
            nonlocal next_drip
            if time.monotonic() >= next_drip:
                next_drip = time.monotonic() + 0.5
                served.extend(httpx.get(f"http://{HOST}:{port}/").status_code for port in fronted.ports.values())
                for case in [case for case, connection in slow.items() if _is_cut(connection, SLOW[case[1]][1])]:
                    del slow[case]
            return not slow

        eventually(all_are_cut, 55, lambda: list(slow))
    assert set(served) == {200}


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        while data:
            data = data[connection.send(data) :]
    except BlockingIOError:
        pass  # as much as is taken


def _is_cut(connection: socket.socket, drip: bytes) -> bool:
    """Go on being slow. A connection that was cut fails when something is sent; only who says nothing has to look."""
    try:
        connection.send(drip or b"\r")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False
