"""Hot reads with the headers, byte for byte, of the request before on their connection: these are not parsed again.

A client sends the same headers with each request. All that differs is the first line, and of that a hot route takes
only one form. So what came is either such a line and the same bytes again, of which is known what they mean, or it is
for the parser, which has seen nothing of it (ADR 36).
"""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from services.common.web.app import Application
from services.common.web.hot import Completed, RequestHeaders

_MORE_FOLLOWS: Final = frozenset({b"content-length", b"expect", b"transfer-encoding", b"upgrade"})
BYTES_MAX: Final = 8192
"""Of a head that is remembered, with each connection."""


class RepeatedHead:
    """The headers of a request that ``answer_now`` has answered, as they came and as they were parsed."""

    __slots__ = ("_app", "_headers", "_lines", "_scope")

    def __init__(self, app: Application, scope: Scope, headers: RequestHeaders, lines: bytes) -> None:
        self._app = app
        self._scope = scope
        self._headers = headers
        self._lines = lines

    def answer(self, data: bytes) -> Completed | None:
        """Answer a request that is one line and these headers again; None, with nothing done, for all else."""
        if not data.endswith(self._lines):
            return None
        return self._app.answer_again(data[: -len(self._lines)], self._scope, self._headers)


def repeated_head(app: Application, scope: Scope, data: bytes) -> RepeatedHead | None:
    """The head of an answered request, if ``data``, in which its head ended, is the whole request and nothing else."""
    headers = dict(scope["headers"])
    query = b"?%s" % scope["query_string"] if scope["query_string"] else b""
    line = b"%s %s%s HTTP/1.1\r\n" % (scope["method"].encode(), scope["raw_path"], query)
    is_whole = (
        len(data) <= BYTES_MAX
        and data.startswith(line)
        and data.endswith(b"\r\n\r\n")
        and data.count(b"\r\n") == len(headers) + 2  # one more, and it would begin before or go on behind
        and _MORE_FOLLOWS.isdisjoint(headers)
    )
    return RepeatedHead(app, scope, headers, data[len(line) :]) if is_whole else None
