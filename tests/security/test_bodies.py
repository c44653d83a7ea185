"""Bodies that are bombs, riddles or no JSON, to every route that takes one; hot routes and the others answer alike."""

from __future__ import annotations

import gzip
import json
import socket
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from typing import Any, Final
from uuid import uuid4

import httpx
import pytest

from tests.security.conftest import Fronted
from tests.support.guarded import refusal
from tests.support.ports import HOST
from tests.support.raw_http import first_answer, request
from tests.support.wait import eventually

JSON: Final = {"Content-Type": "application/json"}
GOOD: Final = b'{"content": "hello", "user_id": %d}'
FILL: Final = 64_000
MEBIBYTE: Final = 2**20
FLOODERS: Final = 16
POURED_PIECES: Final = 128
"""Of 64 KiB each: far more than is read of a body that is too large."""

NO_JSON: Final[dict[str, bytes]] = {
    "arrays in arrays": b"[" * FILL,
    "arrays in arrays that end": b"[" * (FILL // 2) + b"]" * (FILL // 2),
    "objects in objects": b'{"a":' * (FILL // 6) + b"1" + b"}" * (FILL // 6),
    "an array without end": b"[1" + b",1" * 30_000,
    "a string without end": b'{"content": "' + b"a" * FILL,
    "half an escape": b'{"content": "\\u12"}',
    "a lone surrogate": b'{"content": "\\ud83d"}',
    "surrogates in the wrong order": b'{"content": "\\ude00\\ud83d"}',
    "no UTF-8": b'{"content": "\xff"}',
    "overlong UTF-8": b'{"content": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"content": "\xed\xa0\x80"}',
    "half a letter": b'{"content": "\xf0\x9f\x90"}',
    "UTF-16": '{"content": "hello"}'.encode("utf-16"),
    "UTF-32": '{"content": "hello"}'.encode("utf-32"),
    "a byte order mark": b'\xef\xbb\xbf{"content": "hello"}',
    "a raw line end in a string": b'{"content": "a\nb"}',
    "a raw NUL in a string": b'{"content": "a\0b"}',
    "NUL behind it": b'{"content": "a"}\0',
    "two documents": b'{"content": "a"}{"content": "b"}',
    "a comment": b'{"content": "a" /* why */}',
    "a comma too many": b'{"content": "a",}',
    "single quotes": b"{'content': 'a'}",
    "no quotes": b'{content: "a"}',
    "NaN": b'{"content": "a", "user_id": NaN}',
    "infinity": b'{"content": "a", "user_id": -Infinity}',
    "a number beyond floats": b'{"content": "a", "user_id": 1e400}',
    "a number of 5000 nines": b'{"content": "a", "user_id": ' + b"9" * 5_000 + b".0}",
    "a number that begins with 0": b'{"content": "a", "user_id": 01}',
    "a number with underscores": b'{"content": "a", "user_id": 1_000}',
    "a number in hexadecimal": b'{"content": "a", "user_id": 0x10}',
    "gzip": gzip.compress(b'{"content": "hello"}'),
}
"""Refused as no JSON, whatever the route."""

BAD_JSON: Final[dict[str, bytes]] = {
    "an integer of 5000 digits": b'{"content": "a", "user_id": ' + b"9" * 5_000 + b"}",
    "an integer of 60000 digits": b'{"content": "a", "user_id": ' + b"9" * 60_000 + b"}",
    "minus zero": b'{"content": "a", "user_id": -0}',
    "an exponent": b'{"content": "a", "user_id": 1e2}',
    "an exponent of nine digits": b'{"content": "a", "user_id": 1e-999999999}',
    "a float": b'{"content": "a", "user_id": 1.0}',
    "a boolean": b'{"content": "a", "user_id": true}',
    "digits in a string": b'{"content": "a", "user_id": "1"}',
    "an object for an id": b'{"content": "a", "user_id": {"$gt": 0}}',
    "an array for a text": b'{"content": ["a"]}',
    "a huge array": b'{"content": [' + b"0," * 30_000 + b"0]}",
    "seven thousand names": b"{" + b",".join(b'"%d":0' % number for number in range(7_000)) + b"}",
    "a dangerous name": b'{"content": "a", "user_id": 1, "__proto__": {"user_id": 2}, "__class__": "os"}',
    "an unknown name that is empty": b'{"content": "a", "user_id": 1, "": 1}',
    "an unknown name in another case": b'{"content": "a", "User_Id": 1}',
    "NUL in a name": b'{"content": "a", "user_id": 1, "user_id\\u0000": 2}',
    "NUL in the text": b'{"content": "a\\u0000b"}',
    "an array": b"[]",
    "a number": b"1",
    "a string": b'"hello"',
    "a number at last": b'{"content": "a", "content": 1}',
}
"""JSON, but of no request of ours."""

TYPES: Final = (
    None,
    "",
    "text/plain",
    "text/json",
    "application/jsonp",
    "application/vnd.api+json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=" + "b" * 70,
    "multipart/form-data",
    "multipart/form-data; " + "a=b;" * 2_000,
    "application/xml",
    "json",
    "*/*",
    "application/json, text/plain",
    "text/plain; application/json",
)
"""What is not application/json; browsers send some of it to other origins without asking."""


def routes_with_bodies(fronted: Fronted) -> dict[str, str]:
    """The operations of the write service that take a body: method by a path of something that is there."""
    _, bob, tweet = fronted.system.cast
    paths: dict[str, dict[str, Any]] = fronted.system.write.get("/openapi.json").json()["paths"]
    found = {
        f"{method} {path.format(tweet_id=tweet, user_id=bob.id)}": method.upper()
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "requestBody" in operation
    }
    assert len(found) > 10
    return found


def send_all(fronted: Fronted, bodies: dict[str, bytes]) -> dict[str, dict[str, tuple[int, str | None]]]:
    """Every body to every route, from somebody who may: status and code. Nothing is appended, no bug is met."""
    ada, _, _ = fronted.system.cast
    headers = {**JSON, **ada.headers}
    head = fronted.system.log.head()
    answers = {
        route: {
            name: refusal(fronted.system.write.request(method, route.split()[1], content=body, headers=headers))
            for name, body in bodies.items()
        }
        for route, method in routes_with_bodies(fronted).items()
    }
    assert fronted.system.log.head() == head
    assert fronted.errors_logged() == []
    return answers


def test_what_is_no_json_is_refused_by_every_route(fronted: Fronted) -> None:
    """The same way by all of them: one parser has the first look, before any route."""
    for route, answers in send_all(fronted, NO_JSON).items():
        assert {name: found for name, found in answers.items() if found != (400, "bad_json")} == {}, route


def test_json_of_no_request_is_refused_by_every_route(fronted: Fronted) -> None:
    """With a list of what is wrong, a bounded one, and without a word of what was sent."""
    for route, answers in send_all(fronted, BAD_JSON).items():
        refusals = {(422, "validation_error"), (400, "bad_json")}
        assert {name: found for name, found in answers.items() if found not in refusals} == {}, route
    many = fronted.system.write.post("/tweets", content=BAD_JSON["seven thousand names"], headers=JSON)
    assert len(many.json()["detail"]) <= 20
    assert len(many.content) < 4096


@pytest.mark.parametrize("bodies", [NO_JSON, BAD_JSON], ids=["no JSON", "bad JSON"])
def test_hot_and_other_routes_refuse_alike(fronted: Fronted, bodies: dict[str, bytes]) -> None:
    """A query string makes any request a cold one; with an Idempotency-Key it is, too."""
    _, bob, tweet = fronted.system.cast
    head = fronted.system.log.head()
    for path in ("/tweets", f"/tweets/{tweet}/like"):
        for name, content in bodies.items():
            body = content.replace(b'"user_id": 1, "', b'"user_id": %d, "' % bob.id)  # a known author, or it is not hot
            hot = fronted.system.write.post(path, content=body, headers=JSON)
            cold = fronted.system.write.post(f"{path}?cold", content=body, headers=JSON)
            keyed = fronted.system.write.post(path, content=body, headers={**JSON, "Idempotency-Key": uuid4().hex})
            assert (hot.status_code, hot.content) == (cold.status_code, cold.content), (path, name)
            assert (hot.status_code, hot.content) == (keyed.status_code, keyed.content), (path, name)
    assert fronted.system.log.head() == head


TEXTS: Final = {
    "plain": "hello",
    "decomposed": "e\u0301" * 3,
    "280 letters of four code points": "\u1f82".encode().decode() * 280,
    "280 letters, decomposed": unicodedata.normalize("NFD", "\u1f82") * 280,
    "zero width inside": "a\u200b\u200db",
    "right to left": "\u202eevil\u202c \u05d0",
    "a byte order mark inside": "a\ufeffb",
    "no character": "a\uffff\ufdd0",
    "marks without end": "a" + "\u0301" * 279,
    "beyond the basic plane": "\U0001f426" * 280,
    "markup": "<script>alert(1)</script>{{7*7}}${7*7}",
    "a shell": "$(reboot) `reboot` ; DROP TABLE tweets; --",
    "a line of a log": '\n{"event": "forged"}\r\n',
    "a terminal's": "\x1b[2J\x07",
}


def test_a_text_is_the_same_whichever_way_it_comes(fronted: Fronted) -> None:
    """Hot, cold and read back: normalised and otherwise untouched. Nothing in it means anything to anybody."""
    ada, _, _ = fronted.system.cast
    for name, text in TEXTS.items():
        body = json.dumps({"content": text, "user_id": ada.id}).encode()
        hot, cold = (
            fronted.system.write.post(path, content=body, headers=JSON) for path in ("/tweets", "/tweets?cold")
        )
        assert (hot.status_code, cold.status_code) == (201, 201), name
        kept = unicodedata.normalize("NFC", text)
        assert hot.json()["content"] == cold.json()["content"] == kept, name
        at = {"X-Min-Position": cold.headers["X-Log-Position"]}
        assert fronted.system.read.get(f"/tweets/{cold.json()['id']}", headers=at).json()["content"] == kept, name
    assert fronted.errors_logged() == []


UNSAYABLE: Final = (
    "",
    " ",
    "\t\n",
    "\u200b\u200d\ufeff",
    "\u3164",
    "\u2800",
    "\ufe0f",
    "x" * 281,
    "a\0b",
    "\u1f82" * 281,
)


def test_a_text_that_nobody_can_see_is_refused_whichever_way_it_comes(fronted: Fronted) -> None:
    """Blank, too long, or with NUL."""
    ada, _, _ = fronted.system.cast
    head = fronted.system.log.head()
    for text in UNSAYABLE:
        body = json.dumps({"content": text, "user_id": ada.id}).encode()
        hot, cold = (
            fronted.system.write.post(path, content=body, headers=JSON) for path in ("/tweets", "/tweets?cold")
        )
        assert (hot.status_code, hot.content) == (422, cold.content), text
    assert fronted.system.log.head() == head


LOOK_ALIKES: Final = (
    "\u0430da",
    "ad\u0430",
    "\uff41da",
    "ada\u200b",
    "\u202eada",
    "\u212aate",
    "\u017fam",
    "ada\u0301",
    "a\u00adda",
    "ada\0",
)


def test_nobody_can_take_a_name_that_looks_like_anothers(fronted: Fronted) -> None:
    """Names are ASCII; what folds to ASCII in some alphabet is not."""
    head = fronted.system.log.head()
    for username in LOOK_ALIKES:
        answer = fronted.system.write.post("/users", json={"username": username, "email": "look@example.org"})
        assert refusal(answer) == (422, "validation_error"), username
        path = f"/users/by-username/{httpx.URL('http://x/' + username.replace(chr(0), '%00')).raw_path.decode()[1:]}"
        assert refusal(fronted.system.read.get(path))[0] in {404, 422}
    assert fronted.system.log.head() == head


def test_one_address_is_one_however_it_is_written(fronted: Fronted) -> None:
    """In any case, composed or not, with an international domain in either form."""
    mark = uuid4().hex[:8]
    first = f"caf\u00e9.{mark}@b\u00fccher.example"
    taken = fronted.system.write.post("/users", json={"username": f"u_{mark}", "email": first})
    assert taken.status_code == 201, taken.text
    others = (first.upper(), unicodedata.normalize("NFD", first), f"caf\u00e9.{mark}@xn--bcher-kva.example")
    for number, email in enumerate(others):
        answer = fronted.system.write.post("/users", json={"username": f"u{number}_{mark}", "email": email})
        assert refusal(answer) == (409, "email_taken"), email


def test_a_name_to_show_is_normalised_and_an_invisible_one_is_none(fronted: Fronted) -> None:
    """It is decoration: the username says who somebody is."""
    eve = fronted.system.sign_up(None)
    shown = {"e\u0301ve": "\u00e9ve", "\u200b\u200d": "", "\u202eeve": "\u202eeve", " \u3164": ""}
    for name, kept in shown.items():
        changed = fronted.system.write.patch("/users/me", json={"name": name, "bio": name}, headers=eve.headers)
        assert changed.status_code == 200, name
        at = {"X-Min-Position": changed.headers["X-Log-Position"]}
        profile = fronted.system.read.get(f"/users/{eve.id}", headers=at).json()
        assert (profile["name"], profile["bio"]) == (kept, kept)
    for name in ("a\0b", "x" * 51, "\u1f82" * 51):
        answer = fronted.system.write.patch("/users/me", json={"name": name}, headers=eve.headers)
        assert refusal(answer) == (422, "validation_error")


def test_a_body_of_another_type_is_not_looked_at(fronted: Fronted) -> None:
    """By no route: so no page of another origin can post without the browser asking first."""
    ada, _, _ = fronted.system.cast
    head = fronted.system.log.head()
    for route, method in routes_with_bodies(fronted).items():
        for media_type in TYPES:
            headers = {} if media_type is None else {"Content-Type": media_type}
            answer = fronted.system.write.request(method, route.split()[1], content=GOOD % ada.id, headers=headers)
            assert refusal(answer) == (415, "unsupported_media_type"), (route, media_type)
    assert fronted.system.log.head() == head


@cache
def packed_bomb() -> bytes:
    """Twenty megabytes of JSON, compressed a thousand times."""
    return gzip.compress(b"{" + b" " * 20_000_000 + b"}", 6)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"])
def test_a_body_that_is_compressed_is_not_unpacked(fronted: Fronted, encoding: str) -> None:
    """Twenty megabytes in twenty kilobytes stay twenty kilobytes, at the services and at the edge."""
    for client in (fronted.system.write, fronted.edge.http):
        answer = client.post("/tweets", content=packed_bomb(), headers={**JSON, "Content-Encoding": encoding})
        assert refusal(answer) == (400, "bad_json")


def test_of_a_name_that_comes_twice_the_last_one_counts(fronted: Fronted) -> None:
    """In both decoders, so that it does not depend on the way which of two people acts."""
    ada, bob, _ = fronted.system.cast
    body = b'{"content": "a", "user_id": %d, "content": "b", "user_id": %d}' % (ada.id, bob.id)
    for path in ("/tweets", "/tweets?cold"):
        answer = fronted.system.write.post(path, content=body, headers=JSON)
        assert (answer.status_code, answer.json()["content"], answer.json()["user_id"]) == (201, "b", bob.id)
        refused = fronted.system.write.post(path, content=body, headers={**JSON, **ada.headers})
        assert refusal(refused) == (403, "not_yourself")


TOO_LONG: Final = {
    b"Content-Length: 65537": b"",
    b"Content-Length: 999999999999": b"{}",
    b"Transfer-Encoding: chunked": (b"1000\r\n" + b" " * 0x1000 + b"\r\n") * 17,
}
"""Bodies over the limit, by how their length is said: as a number, without a byte of it or with some, or in chunks."""


@pytest.mark.parametrize("door", ["write", "edge"])
def test_a_body_over_the_limit_is_refused_by_every_route(fronted: Fronted, door: str) -> None:
    """As soon as it is, and the connection is closed: what comes of it later is no request."""
    head = fronted.system.log.head()
    for route in routes_with_bodies(fronted):
        for length, body in TOO_LONG.items():
            answer = first_answer(fronted.ports[door], head_of(route, length) + body)
            assert (answer.status, answer.headers["connection"]) == (413, "close"), (route, length)
            assert json.loads(answer.body)["code"] == "body_too_large"
    assert fronted.system.log.head() == head


@pytest.mark.parametrize("door", ["write", "edge"])
def test_a_body_that_is_shorter_than_it_says_is_none(fronted: Fronted, door: str) -> None:
    """A client that leaves in the middle has asked nothing, also where what has come would be a whole document."""
    ada, _, _ = fronted.system.cast
    head = fronted.system.log.head()
    body = GOOD % ada.id
    chunk = b"%x\r\n%s\r\n" % (len(body), body)
    for length, sent in ((b"Content-Length: %d" % (len(body) + 1), body), (b"Transfer-Encoding: chunked", chunk)):
        with socket.create_connection((HOST, fronted.ports[door]), timeout=30) as connection:
            connection.sendall(head_of("post /tweets", length) + sent)
            connection.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                assert not connection.recv(4096).startswith(b"HTTP/1.1 2")
    assert fronted.system.write.get("/healthz/live").status_code == 200
    assert fronted.system.log.head() == head
    assert fronted.errors_logged() == []


def head_of(route: str, length: bytes) -> bytes:
    """The head of a request with a body of JSON."""
    method, path = route.upper().split()[0], route.split()[1]
    return request(method.encode(), path.encode(), b"Content-Type: application/json", length)


def pour(port: int, length: bytes) -> int:
    """Send a body without end for as long as somebody takes it; the status that was answered, 0 for none."""
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection((HOST, port), timeout=30) as connection:
        with suppress(ConnectionError):
            connection.sendall(head_of("post /tweets", length))
            for _ in range(POURED_PIECES):
                connection.sendall(piece)
        with connection.makefile("rb") as stream, suppress(ConnectionError):
            words = stream.readline().split()
            return int(words[1]) if words else 0
    return 0


def test_a_flood_of_bombs_takes_little_memory_and_nobody_waits_for_it(fronted: Fronted) -> None:
    """Bodies without end at both doors, and the largest ones that are taken: others read and write beside them."""
    writer = fronted.system.writers[0]
    ada, _, tweet = fronted.system.cast
    fronted.system.wait_until_applied(tweet)
    before = writer.memory_bytes_max
    bombs = [b"[" * 65_000, b"[" + b"{}," * 21_000 + b"{}]", BAD_JSON["seven thousand names"], NO_JSON["gzip"]]
    lengths = (b"Transfer-Encoding: chunked", b"Content-Length: 999999999999")
    ports = (fronted.ports["write"], fronted.ports["edge"])
    with ThreadPoolExecutor(FLOODERS) as pool:
        poured = [pool.submit(pour, ports[n % 2], lengths[n // 2 % 2]) for n in range(2 * FLOODERS)]
        posted = [
            pool.submit(writer.http.post, "/tweets", content=bombs[n % 4], headers=JSON, timeout=30)
            for n in range(8 * FLOODERS)
        ]
        body = {"content": "beside", "user_id": ada.id}
        for _ in range(20):  # a machine that is busy with something else may answer 503 to a write, too
            eventually(lambda: fronted.system.write.post("/tweets", json=body, timeout=30).status_code == 201)
            assert fronted.system.read.get(f"/tweets/{tweet}", timeout=30).status_code == 200
    assert {future.result().status_code for future in posted} <= {400, 422}
    statuses = {future.result() for future in poured}
    assert statuses <= {0, 413}, statuses
    assert 413 in statuses
    assert writer.memory_bytes_max - before < 64 * MEBIBYTE
    assert fronted.errors_logged() == []
