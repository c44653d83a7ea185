"""Heads of hot requests that were parsed before, byte for byte: these are not parsed again (ADR 39).

A client sends the same headers with each request. All that differs is the first line, and of that a hot route takes
only one form. So what came is such a line and bytes of which is known what they mean, or it is for the parser, which
has seen nothing of it.
"""

from __future__ import annotations

from sys import getsizeof
from typing import Final

from starlette.types import Scope

from services.common.web.hot import Body, Header, RequestHeaders

KNOWN_HEAD_BYTES_MAX: Final = 8192
"""Of a head that is remembered."""
KNOWN_BYTES_MAX: Final = 8 * 1024 * 1024
"""In memory, of all of them together: some thousands."""

KnownRequest = tuple[bytes, RequestHeaders, bytes | None]
"""A whole request: its first line, its headers, and its body, None where they announce none."""

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
        self._young: dict[bytes, tuple[RequestHeaders, int | None]] = {}
        self._young_bytes = 0
        self._old: dict[bytes, tuple[RequestHeaders, int | None]] = {}

    def find(self, data: bytes) -> KnownRequest | None:
        """What has been read, if it is one whole request, and its headers are known."""
        lines_at = data.find(b"\r\n", 0, KNOWN_HEAD_BYTES_MAX) + 2
        body_at = data.find(_END, lines_at - 2, KNOWN_HEAD_BYTES_MAX) + len(_END)
        lines = data[lines_at:body_at]
        known = self._young.get(lines) or self._renewed(lines)
        if known is None:
            return None
        headers, body_bytes = known
        if body_bytes is None:
            return (data[:lines_at], headers, None) if len(data) == body_at else None
        return (data[:lines_at], headers, data[body_at:]) if len(data) == body_at + body_bytes else None

    def remember(self, data: bytes, scope: Scope, body: Body) -> None:
        """Remember the headers of a request that was parsed to these, if it certainly is all of ``data``.

        That is: what has been read begins with its first line, goes on with its headers, a line each, and ends with
        its body, which they announce by its length. Nothing then has come before or behind it.
        """
        query = b"?%s" % scope["query_string"] if scope["query_string"] else b""
        line = b"%s %s%s HTTP/1.1\r\n" % (scope["method"].encode(), scope["raw_path"], query)
        lines = data[len(line) : len(data) - len(body)]
        if lines in self._young or len(line) + len(lines) > KNOWN_HEAD_BYTES_MAX:
            return
        headers = dict(scope["headers"])
        body_bytes = len(body) if scope["method"] == "POST" else None
        if (
            data.startswith(line)
            and lines.endswith(_END)
            and _headers_in(lines) == list(headers.items())
            and headers.get(b"content-length") == (None if body_bytes is None else b"%d" % body_bytes)
            and _MORE_FOLLOWS.isdisjoint(headers)
        ):
            self._keep(lines, (headers, body_bytes))

    def _renewed(self, lines: bytes) -> tuple[RequestHeaders, int | None] | None:
        known = self._old.get(lines)
        if known is not None:
            self._keep(lines, known)
        return known

    def _keep(self, lines: bytes, known: tuple[RequestHeaders, int | None]) -> None:
        taken_bytes = _bytes_of(lines, known[0])
        if self._young_bytes + taken_bytes > self._each_bytes_max:
            self._young, self._young_bytes, self._old = {}, 0, self._young
        self._young[lines] = known
        self._young_bytes += taken_bytes


def _headers_in(lines: bytes) -> list[Header]:
    """Headers as nearly everybody sends them, a colon and one space between name and value."""
    parts = [line.partition(b": ") for line in lines[: -len(_END)].split(b"\r\n")]
    return [(name.lower(), value) for name, _, value in parts]


def _bytes_of(lines: bytes, headers: RequestHeaders) -> int:
    of_headers = sum([getsizeof(name) + getsizeof(value) for name, value in headers.items()])
    return _OVERHEAD_BYTES + getsizeof(lines) + getsizeof(headers) + of_headers
