"""Responses as they are sent: when there is nothing new, and compressed."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest
from starlette.responses import Response

from services.read.encoded import GZIP_BYTES_MIN, PRIVATE, Encoded

LARGE = Encoded(200, b'"' + b"a tweet " * GZIP_BYTES_MIN + b'"', '</users/1/tweets?limit=10&max_id=7>; rel="next"')
SMALL = Encoded(200, b'{"id":1}')


def asked(encoded: Encoded, **headers: str) -> Response:
    """The answer to a request with these headers, named as in Python."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return encoded.response(raw)


def test_an_etag_is_of_all_that_a_client_sees() -> None:
    """Of the next page's address too, which may appear while the body stays; not of when it was read."""
    assert SMALL.etag == Encoded(200, b'{"id":1}', read_position=9).etag
    others = {Encoded(200, b'{"id":2}').etag, replace(SMALL, link="</users?max_id=7>").etag, LARGE.etag}
    assert len({SMALL.etag, *others}) == 4


@pytest.mark.parametrize("form", ["{}", '"other", {}', '{} , W/"x"', "*", "strong"])
def test_what_the_client_has_is_not_sent_again(form: str) -> None:
    """304, with the headers that the 200 would have had to revalidate by."""
    etag = (SMALL.etag or b"").decode()
    named = etag.removeprefix("W/") if form == "strong" else form.format(etag)
    answer = asked(SMALL, if_none_match=named)
    assert (answer.status_code, answer.body) == (304, b"")
    assert dict(answer.raw_headers) == {b"etag": SMALL.etag, b"cache-control": b"no-cache"}


@pytest.mark.parametrize("named", ['W/"0123456789abcdef"', "", "no etag", '"*"'])
def test_what_the_client_does_not_have_is_sent(named: str) -> None:
    """An unknown tag is no error."""
    assert (asked(SMALL, if_none_match=named).status_code, asked(SMALL, if_none_match=named).body) == (200, SMALL.body)


def test_a_404_has_no_etag_and_is_asked_for_again() -> None:
    """Without saying so a proxy might keep it for a while."""
    missing = Encoded(404, b"{}")
    answer = asked(missing, if_none_match="*")
    assert answer.status_code == 404
    assert (b"cache-control", b"no-cache") in answer.raw_headers
    assert missing.etag is None


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.00, *", False),
        ("*;q=0", False),
        ("br", False),
        ("", False),
    ],
)
def test_a_large_answer_is_compressed_where_it_may_be(accepted: str, is_compressed: bool) -> None:
    """Caches are told by Vary, whichever they get; the ETag stays."""
    answer = asked(LARGE, accept_encoding=accepted)
    headers = dict(answer.raw_headers)
    body = bytes(answer.body)
    assert headers.get(b"content-encoding") == (b"gzip" if is_compressed else None)
    assert (gzip.decompress(body) if is_compressed else body) == LARGE.body
    assert headers[b"content-length"] == b"%d" % len(body)
    assert (headers[b"vary"], headers[b"etag"]) == (b"Accept-Encoding", LARGE.etag)
    assert headers[b"link"] == (LARGE.link or "").encode()


def test_it_is_compressed_once() -> None:
    """And counted in the memory of the cache before."""
    first, second = (asked(LARGE, accept_encoding="gzip").body for _ in range(2))
    assert first is second
    assert LARGE.size_bytes >= len(LARGE.body) + len(first)


def test_small_answers_and_secrets_are_not_compressed() -> None:
    """The one would gain nothing; the length of the other would tell of what is in it (BREACH)."""
    secret = replace(LARGE, cache_control=PRIVATE)
    for answer in (asked(SMALL, accept_encoding="gzip"), asked(secret, accept_encoding="gzip")):
        assert not {b"content-encoding", b"vary"} & dict(answer.raw_headers).keys()
    assert secret.etag is None
    assert (b"cache-control", b"no-store") in asked(secret).raw_headers
