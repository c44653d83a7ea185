"""Responses as they are sent: encoded once, compressed once, however often they are asked for."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Final

from starlette.responses import Response

from services.common.ids import BEGINNING
from services.common.web.hot import Header, RequestHeaders, WholeAnswer, headers_of

GZIP_BYTES_MIN: Final = 1400
"""What is smaller fits into one packet as it is: single tweets and users, the hot answers, are never compressed."""
GZIP_LEVEL: Final = 1
"""A page of 10 tweets in 35 µs to a quarter, one of 100 in 0.2 ms to a fifth; level 6 takes 0.5 ms for 2 % less."""
HEADERS_BYTES: Final = 500
PUBLIC: Final = b"no-cache"
"""Keep it, and ask each time whether it is still what it was."""
PRIVATE: Final = b"no-store"

_DIGITS_OF_DIGEST: Final = 16
_OK: Final = 200
_NOT_MODIFIED: Final = 304


@dataclass(slots=True)
class Encoded:
    """A response ready to be sent; ``link`` is its Link header.

    ``read_position`` is that of the rows it was made from. It can be above the applied position for a moment, between
    a batch's commit and note_applied(). A 200 that is not PRIVATE has an ETag: weak, as it is the same for the
    compressed body, and made of all that a client sees but the headers that every answer has.
    """

    status: int
    body: bytes
    link: str | None = None
    read_position: int = BEGINNING
    cache_control: bytes = PUBLIC
    etag: bytes | None = field(init=False, compare=False)
    _is_compressible: bool = field(init=False, compare=False, repr=False)
    _whole: WholeAnswer = field(init=False, compare=False, repr=False)
    _compressed: WholeAnswer | None = field(init=False, compare=False, repr=False, default=None)

    def __post_init__(self) -> None:
        body, is_public = self.body, self.cache_control == PUBLIC
        link = b"" if self.link is None else self.link.encode("ascii")
        # What holds secrets is not: its length would tell of them, compressed with what somebody else wrote (BREACH).
        self._is_compressible = is_public and len(body) >= GZIP_BYTES_MIN
        self.etag = b'W/"%s"' % _digest(body, link) if is_public and self.status == _OK else None
        head = b"%scache-control: %s\r\n%s%s%s" % (
            _content(body),
            self.cache_control,
            b"" if self.etag is None else b"etag: %s\r\n" % self.etag,
            b"vary: Accept-Encoding\r\n" if self._is_compressible else b"",
            b"link: %s\r\n" % link if link else b"",
        )
        self._whole = WholeAnswer(self.status, head, body)

    @property
    def size_bytes(self) -> int:
        """Memory it may take: the body, what that is compressed to, the headers."""
        return len(self.body) + (len(self.body) // 2 if self._is_compressible else 0) + HEADERS_BYTES

    def response(self, request_headers: Iterable[Header]) -> Response:
        """The answer to a request with these headers, of which a name may be there more than once."""
        given: dict[bytes, bytes] = {}
        for name, value in request_headers:
            given[name] = b"%s,%s" % (given[name], value) if name in given else value
        return _Ready(self.whole(given))

    def whole(self, request_headers: RequestHeaders) -> WholeAnswer:
        """The answer to a request with these headers: 304 if the client has it, compressed if that pays and it may."""
        named = request_headers.get(b"if-none-match")
        if named is not None and self.etag is not None and _names(named, self.etag):
            return WholeAnswer(_NOT_MODIFIED, self._head, b"")
        if self._is_compressible and _accepts_gzip(request_headers.get(b"accept-encoding", b"")):
            return self._compressed_whole()
        return self._whole

    def _compressed_whole(self) -> WholeAnswer:
        if self._compressed is None:
            body = gzip.compress(self.body, GZIP_LEVEL, mtime=0)
            head = b"%scontent-encoding: gzip\r\n%s" % (_content(body), self._head)
            self._compressed = WholeAnswer(self.status, head, body)
        return self._compressed

    @property
    def _head(self) -> bytes:
        """The headers but those of the content."""
        return self._whole.head.removeprefix(_content(self.body))


class _Ready(Response):
    """A response whose headers are made: Starlette would take as long for them as all the rest of a hot read."""

    def __init__(self, answer: WholeAnswer) -> None:
        self.status_code, head, self.body = answer
        self.raw_headers = headers_of(head)
        self.background = None


def _content(body: bytes) -> bytes:
    return b"content-length: %d\r\ncontent-type: application/json\r\n" % len(body)


def _digest(body: bytes, link: bytes) -> bytes:
    """Processors have instructions for SHA-256: of a page of tweets it takes 1.8 µs less than blake2b."""
    return sha256(b"%s\n%s" % (body, link)).hexdigest()[:_DIGITS_OF_DIGEST].encode()


def _names(if_none_match: bytes, etag: bytes) -> bool:
    """Whether the header names an ETag, by the weak comparison of RFC 9110: a proxy may have made it strong."""
    opaque = etag.removeprefix(b"W/")
    named = [tag.strip() for tag in if_none_match.split(b",")]
    return named == [b"*"] or any(tag.removeprefix(b"W/") == opaque for tag in named)


@lru_cache(256)
def _accepts_gzip(accept_encoding: bytes) -> bool:
    """Whether the header allows gzip: by name, or with whatever is not named, unless with a weight of nothing."""
    weights = {}
    for item in accept_encoding.lower().split(b","):
        coding, *parameters = (part.strip() for part in item.split(b";"))
        weights[coding] = not any(parameter.strip(b"0. ") == b"q=" for parameter in parameters)
    return weights.get(b"gzip", weights.get(b"*", False))
