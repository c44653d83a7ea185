"""Responses as they are sent: encoded once, compressed once, however often they are asked for."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from starlette.responses import Response

from services.common.ids import BEGINNING

GZIP_BYTES_MIN: Final = 1400
"""What is smaller fits into one packet as it is: single tweets and users, the hot answers, are never compressed."""
GZIP_LEVEL: Final = 1
"""A page of 10 tweets in 35 µs to a quarter, one of 100 in 0.2 ms to a fifth; level 6 takes 0.5 ms for 2 % less."""
HEADERS_BYTES: Final = 700
PUBLIC: Final = b"no-cache"
"""Keep it, and ask each time whether it is still what it was."""
PRIVATE: Final = b"no-store"

Header = tuple[bytes, bytes]

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
    _headers: list[Header] = field(init=False, compare=False, repr=False)
    _plain_headers: list[Header] = field(init=False, compare=False, repr=False)
    _compressed: bytes | None = field(init=False, compare=False, repr=False, default=None)

    def __post_init__(self) -> None:
        link = (self.link or "").encode("ascii")
        is_public = self.status == _OK and self.cache_control == PUBLIC
        self.etag = b'W/"%s"' % _digest(self.body, link) if is_public else None
        self._headers = [(b"cache-control", self.cache_control)]
        if self.etag is not None:
            self._headers.append((b"etag", self.etag))
        if self._is_compressible:
            self._headers.append((b"vary", b"Accept-Encoding"))
        if link:
            self._headers.append((b"link", link))
        self._plain_headers = [*_content(self.body), *self._headers]

    @property
    def size_bytes(self) -> int:
        """Memory it may take: the body, what that is compressed to, the headers."""
        return len(self.body) + (len(self.body) // 2 if self._is_compressible else 0) + HEADERS_BYTES

    def response(self, request_headers: Iterable[Header]) -> Response:
        """The answer to a request with these headers: 304 if the client has it, compressed if that pays and it may."""
        is_compressed = False
        for name, value in request_headers:
            if name == b"if-none-match" and self.etag is not None and _names(value, self.etag):
                return _Ready(_NOT_MODIFIED, b"", self._headers)
            if name == b"accept-encoding" and self._is_compressible:
                is_compressed = _accepts_gzip(value)
        if not is_compressed:
            return _Ready(self.status, self.body, self._plain_headers)
        if self._compressed is None:
            self._compressed = gzip.compress(self.body, GZIP_LEVEL, mtime=0)
        headers = [*_content(self._compressed), (b"content-encoding", b"gzip"), *self._headers]
        return _Ready(self.status, self._compressed, headers)

    @property
    def _is_compressible(self) -> bool:
        # What holds secrets is not: its length would tell of them, compressed with what somebody else wrote (BREACH).
        return len(self.body) >= GZIP_BYTES_MIN and self.cache_control == PUBLIC


class _Ready(Response):
    """A response whose headers are made: Starlette would take as long for them as all the rest of a hot read."""

    def __init__(self, status: int, body: bytes, headers: list[Header]) -> None:
        self.status_code = status
        self.body = body
        self.raw_headers = list(headers)
        self.background = None


def _content(body: bytes) -> tuple[Header, Header]:
    return (b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")


def _digest(*parts: bytes) -> bytes:
    return blake2b(b"\n".join(parts), digest_size=8).hexdigest().encode()


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
