"""Bad input of every kind: a 4xx in the one error shape, never a 500, never an event."""

from __future__ import annotations

import json

import httpx
import pytest

from services.common.log.client import EventLog
from tests.support.system import System

JSON = {"Content-Type": "application/json"}
TWEET = {"user_id": 1, "content": "hello"}


def is_problem(response: httpx.Response) -> bool:
    """Whether a body has the one error shape, and nothing else."""
    body = response.json()
    return set(body) == {"detail", "code"} and isinstance(body["code"], str) and isinstance(body["detail"], str | list)


BODIES = {
    "empty": b"",
    "not_json": b"content=hello",
    "half_json": b'{"content": "hel',
    "null": b"null",
    "array": b"[1, 2]",
    "string": b'"hello"',
    "wrong_types": b'{"user_id": "1", "content": 7}',
    "boolean_id": b'{"user_id": true, "content": "hello"}',
    "float_id": b'{"user_id": 1.5, "content": "hello"}',
    "negative_id": b'{"user_id": -1, "content": "hello"}',
    "zero_id": b'{"user_id": 0, "content": "hello"}',
    "id_above_json_numbers": b'{"user_id": 9007199254740992, "content": "hello"}',
    "id_beyond_64_bits": b'{"user_id": 9223372036854775808, "content": "hello"}',
    "id_of_five_thousand_digits": b'{"user_id": ' + b"9" * 5000 + b', "content": "hello"}',
    "infinity": b'{"user_id": 1e400, "content": "hello"}',
    "nan": b'{"user_id": NaN, "content": "hello"}',
    "nul": b'{"user_id": 1, "content": "a\\u0000b"}',
    "lone_surrogate": b'{"user_id": 1, "content": "\\ud800"}',
    "invalid_utf8": b'{"user_id": 1, "content": "\xff"}',
    "utf16": json.dumps(TWEET).encode("utf-16"),
    "blank": b'{"user_id": 1, "content": " \\t\\u200b "}',
    "no_content": b'{"user_id": 1}',
    "281_code_points": json.dumps({**TWEET, "content": "x" * 281}).encode(),
    "deep_nesting": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "unknown_field": b'{"user_id": 1, "content": "hello", "mood": "grim"}',
    "64_kib": b'{"user_id": 1, "content": "' + b"x" * 65_536 + b'"}',
    "ten_megabytes": b"[" + b"1," * 5_000_000 + b"1]",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_bad_body_is_refused_and_leaves_no_event(running: System, body: bytes) -> None:
    """What cannot be a tweet is refused before the log hears of it."""
    log = EventLog(running.redis.url)
    head = log.head()
    response = running.write.post("/tweets", content=body, headers=JSON)
    assert 400 <= response.status_code < 500
    assert is_problem(response)
    assert int(response.headers["X-Log-Position"]) >= 0
    assert log.head() == head


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/tweets/0", {422}),
        ("/tweets/-1", {422}),
        ("/tweets/9007199254740992", {422}),
        ("/tweets/9223372036854775808", {422}),
        ("/tweets/" + "9" * 5000, {422}),
        ("/tweets/abc", {422}),
        ("/tweets/%00", {422}),
        ("/tweets/9007199254740991", {404}),
        ("/tweets/1", {404}),
        ("/users/1/tweets?limit=0", {422}),
        ("/users/1/tweets?limit=101", {422}),
        ("/users/1/tweets?offset=-1", {422}),
        ("/users/1/tweets?offset=" + "9" * 30, {422}),
        ("/users/1/tweets?max_id=x", {422}),
        ("/users/1/home?max_id=9223372036854775808", {422}),
        ("/users/1/followers?since_id=%F0%9F%90%A6", {422}),
        ("/users/1/followers?max_id=1&max_id=2&max_id=", {404, 422}),
        ("/users/by-username/no%20body", {422}),
        ("/users/by-username/nobody_at_all", {404}),
        ("/no/such/path", {404}),
    ],
)
def test_a_bad_path_or_cursor_is_refused(running: System, path: str, statuses: set[int]) -> None:
    """And what is well-formed but not there is a 404."""
    response = running.read.get(path)
    assert response.status_code in statuses
    assert is_problem(response)
    assert "X-Log-Position" in response.headers


@pytest.mark.parametrize("position", ["x", "-1", "1.5", "9" * 30, "", "9007199254740991"])
def test_a_bad_position_is_refused_at_once(running: System, position: str) -> None:
    """Neither nonsense nor the far future is waited for."""
    response = running.read.get("/users/by-username/author", headers={"X-Min-Position": position})
    assert response.status_code == 400
    assert is_problem(response)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE"])
@pytest.mark.parametrize("path", ["/tweets", "/users"])
def test_an_unknown_method_is_a_405(running: System, method: str, path: str) -> None:
    """The one error shape holds for what the router refuses, too."""
    response = running.write.request(method, path)
    assert response.status_code == 405
    assert is_problem(response)
    assert response.headers["Allow"]


@pytest.mark.parametrize(
    "account",
    [
        {"username": "", "email": "a@example.org"},
        {"username": "x" * 31, "email": "a@example.org"},
        {"username": "a b", "email": "a@example.org"},
        {"username": "ann\n", "email": "a@example.org"},
        {"username": "änn", "email": "a@example.org"},
        {"username": "ann", "email": "nobody"},
        {"username": "ann", "email": "a@example.org\n"},
        {"username": "ann", "email": "a" * 300 + "@example.org"},
        {"username": "ann"},
        {"username": "ann", "email": "a@example.org", "password": "short"},
    ],
)
def test_a_bad_account_is_refused_without_repeating_what_was_sent(running: System, account: dict[str, str]) -> None:
    """An error message may end up in a log or a screenshot: no e-mail and no password in it."""
    response = running.write.post("/users", json=account)
    assert response.status_code == 422
    assert is_problem(response)
    assert "example.org" not in response.text
    assert "short" not in response.text


def test_a_name_is_unique_without_regard_to_case_and_so_is_an_address(running: System) -> None:
    """Each conflict has a code of its own."""
    taken = running.write.post("/users", json={"username": "AUTHOR", "email": "new@example.com"})
    known = running.write.post("/users", json={"username": "somebody", "email": "Author@EXAMPLE.com"})
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    assert (known.status_code, known.json()["code"]) == (409, "email_taken")


def test_reactions_to_what_provably_does_not_exist_are_404(running: System) -> None:
    """The past is known to the reader, the future to the log."""
    for tweet_id in (12_345, 2**53 - 1):
        for action in ("like", "retweet"):
            response = running.write.post(f"/tweets/{tweet_id}/{action}")
            assert (response.status_code, response.json()) == (
                404,
                {"detail": "Tweet not found", "code": "tweet_not_found"},
            )
