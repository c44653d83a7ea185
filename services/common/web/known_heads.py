"""Heads of hot requests that were parsed before, byte for byte: these are not parsed again (ADR 39, 43).

A client sends the same headers with each request. All that differs is the first line, of which a hot route takes only
one form, and how long a body is. So what came is such a line and bytes of which is known what they mean, or it is for
the parser, which has seen nothing of it.
"""

from __future__ import annotations

import re
from sys import getsizeof
from typing import Final

from starlette.types import Scope

from services.common.web.hot import Body, Header, RequestHeaders

KNOWN_HEAD_BYTES_MAX: Final = 8192
"""Of a head that is remembered."""
KNOWN_BYTES_MAX: Final = 4 * 1024 * 1024
"""In memory, of all of them together: some thousands."""

KnownRequest = tuple[bytes, RequestHeaders, bytes | None]
"""A whole request: its first line, its headers but the length of its body, and that, None if it is no POST."""

_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: (0|[1-9][0-9]{0,7})(?=\r\n)")
_END: Final = b"\r\n\r\n"
_MORE_FOLLOWS: Final = frozenset({b"expect", b"transfer-encoding", b"upgrade"})
_OVERHEAD_BYTES: Final = 256
"""About, of one head: tuples, and its place in a dictionary."""


class KnownHeads:
    """Those of all connections, by the lines of their headers: what bytes mean depends on nothing but themselves.

    Two generations, the older of which is dropped when the younger one takes half of ``bytes_max``. A head that is
    found in the older one is kept in the younger.
    """

    def __init__(self, bytes_max: int = KNOWN_BYTES_MAX) -> None:
        self._each_bytes_max = bytes_max // 2
        self._young: dict[bytes, RequestHeaders] = {}
        self._young_bytes = 0
        self._old: dict[bytes, RequestHeaders] = {}

    def find(self, data: bytes) -> KnownRequest | None:
        """What has been read, if it is one whole request, and its headers are known."""
        parts = _parts_of(data)
        if parts is None:
            return None
        line, lines, body = parts
        headers = self._headers_of(lines)
        return None if headers is None else (line, headers, body)

    def remember(self, data: bytes, scope: Scope, body: Body) -> None:
        """Remember the headers of a request that was parsed to these, if it certainly is all of ``data``.

        That is: what has been read begins with its first line, goes on with its headers, a line each, and ends with
        its body, which they announce by its length. Nothing then has come before or behind it.
        """
        query = b"?%s" % scope["query_string"] if scope["query_string"] else b""
        line = b"%s %s%s HTTP/1.1\r\n" % (scope["method"].encode(), scope["raw_path"], query)
        parts, headers = _parts_of(data), dict(scope["headers"])
        announced = headers.pop(b"content-length", None)
        if parts is None or parts[0] != line or parts[2] != (None if announced is None else body):
            return
        lines = parts[1]
        if (
            lines.endswith(_END)
            and _headers_in(lines) == list(headers.items())
            and len(line) + len(lines) <= KNOWN_HEAD_BYTES_MAX
            and _MORE_FOLLOWS.isdisjoint(headers)
            and lines not in self._young
        ):
            self._keep(lines, headers)

    def _headers_of(self, lines: bytes) -> RequestHeaders | None:
        headers = self._young.get(lines)
        if headers is None and (headers := self._old.get(lines)) is not None:
            self._keep(lines, headers)
        return headers

    def _keep(self, lines: bytes, headers: RequestHeaders) -> None:
        taken_bytes = _bytes_of(lines, headers)
        if self._young_bytes + taken_bytes > self._each_bytes_max:
            self._young, self._young_bytes, self._old = {}, 0, self._young
        self._young[lines] = headers
        self._young_bytes += taken_bytes


def _parts_of(data: bytes) -> tuple[bytes, bytes, bytes | None] | None:
    """The first line of what looks like one whole request, the lines of its headers but its length, and its body."""
    lines_at = data.find(b"\r\n", 0, KNOWN_HEAD_BYTES_MAX) + 2
    body_at = data.find(_END, lines_at - 2, KNOWN_HEAD_BYTES_MAX) + len(_END)
    if not data.startswith(b"POST "):
        return (data[:lines_at], data[lines_at:body_at], None) if len(data) == body_at else None
    length = _LENGTH.search(data, lines_at - 2, body_at)
    if length is None or len(data) != body_at + int(length[1]):
        return None
    return data[:lines_at], data[lines_at : length.start() + 2] + data[length.end() + 2 : body_at], data[body_at:]


def _headers_in(lines: bytes) -> list[Header]:
    """Headers as nearly everybody sends them, a colon and one space between name and value."""
    parts = [line.partition(b": ") for line in lines[: -len(_END)].split(b"\r\n")]
    return [(name.lower(), value) for name, _, value in parts]


def _bytes_of(lines: bytes, headers: RequestHeaders) -> int:
    of_headers = sum([getsizeof(name) + getsizeof(value) for name, value in headers.items()])
    return _OVERHEAD_BYTES + getsizeof(lines) + getsizeof(headers) + of_headers
