"""The public HTTP API as a client that must not do anything twice sees it.

Standard-library connections, and threads: an import is bound by what its client can send, and on two cores they
sent 2,000 requests a second where httpx sent 400 (one client a task) or 150 (one shared by 64 tasks).
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

from services.cli.errors import UNAVAILABLE, CommandFailed
from services.cli.tokens import OperatorTokens
from services.common.errors import OutcomeUnknown

REQUEST_TIMEOUT_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 0.5
# uvicorn closes a connection that was idle for 5 s, and a request sent then may or may not have been seen.
IDLE_SECONDS_MAX: Final = 2.0
# Longer than a write service goes on with a request whose client has gone (1 s, see REQUEST_SECONDS there), and
# than it takes to hear of the log's head after that (1 s).
SETTLE_SECONDS: Final = 5.0
PAGE_MAX: Final = 100

_Connection = tuple[http.client.HTTPConnection, float]
"""A connection and when it was last used, on the clock of the Api."""

_NO_ANSWER: Final = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said. ``position`` is its X-Log-Position, 0 if there was none."""

    status: int
    body: Any
    position: int = 0
    retry_after_seconds: float = RETRY_SECONDS

    @property
    def code(self) -> str:
        """The stable reason of a refusal."""
        return self.body.get("code", f"http_{self.status}") if isinstance(self.body, dict) else f"http_{self.status}"

    @property
    def detail(self) -> Any:
        """The reason for people."""
        return self.body.get("detail", "") if isinstance(self.body, dict) else self.body


class Stopped(Exception):
    """Somebody asked to stop while this thread was waiting."""


class NotSent(Exception):
    """The service could not be reached; it has seen nothing of the request."""


@dataclass(slots=True)
class Api:
    """Both services. Calls retry for ``patience_seconds`` what may be retried; safe to use from several threads.

    ``position`` is the greatest that any answer carried; reads ask for it, so that they see every write before them.
    ``tokens`` prove who acts, once the write service has asked for that.
    """

    write_url: str
    read_url: str
    tokens: OperatorTokens | None = None
    patience_seconds: float = PATIENCE_SECONDS
    settle_seconds: float = SETTLE_SECONDS
    stopping: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic
    position: int = 0
    _are_tokens_wanted: bool = False
    _idle: defaultdict[str, list[_Connection]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        """Close the idle connections; nobody may be asking anything then."""
        for connections in self._idle.values():
            for connection, _ in connections:
                connection.close()
        self._idle.clear()

    def write(self, path: str, body: dict[str, Any]) -> Answer:
        """POST to the write service, as the ``user_id`` of the body if it has one; a refusal is an answer, too.

        Raises OutcomeUnknown when nobody can tell whether it happened, CommandFailed when patience ends or when the
        service wants a token and there is none that it takes, Stopped.
        """
        answer = self._ask_until_answered("POST", self.write_url + path, body)
        if answer.code == "token_missing" and self.tokens is not None:
            self._are_tokens_wanted = True
            answer = self._ask_until_answered("POST", self.write_url + path, body)
        if answer.status == http.client.UNAUTHORIZED and answer.code != "token_revoked":
            raise CommandFailed(
                f"the write service wants tokens of those who act, and said: {answer.code}. "
                "Set AUTH_KEYS_FILE to a copy of the file of keys that it has, or start it with AUTH_REQUIRED=false"
            )
        return answer

    def write_repeatably(self, path: str, body: dict[str, Any]) -> Answer:
        """The same for what may be done twice: an unknown outcome is resolved by doing it again."""
        deadline = self.clock() + self.patience_seconds
        while True:
            try:
                return self.write(path, body)
            except OutcomeUnknown as error:
                self._wait(RETRY_SECONDS, deadline, self.write_url, str(error))

    def read(self, path: str) -> Answer:
        """GET from the read service, at or after the greatest position seen. Raises CommandFailed, Stopped."""
        deadline = self.clock() + self.patience_seconds
        while True:
            try:
                return self._ask_until_answered("GET", self.read_url + path)
            except OutcomeUnknown as error:
                self._wait(RETRY_SECONDS, deadline, self.read_url, str(error))

    def user_id(self, username: str) -> int | None:
        """The id of an account, None if there is none."""
        answer = self.read(f"/users/by-username/{quote(username, safe='')}")
        return answer.body["id"] if answer.status == http.client.OK else None

    def tweets_after(self, user_id: int, after_position: int) -> list[tuple[int, str]]:
        """The id and content of every tweet of an account above a position, oldest first."""
        found: list[tuple[int, str]] = []
        below = ""
        while True:
            answer = self.read(f"/users/{user_id}/tweets?limit={PAGE_MAX}&since_id={after_position}{below}")
            page = answer.body if answer.status == http.client.OK else []
            found += [(tweet["id"], tweet["content"]) for tweet in page if tweet["id"] > after_position]
            if len(page) < PAGE_MAX:
                return sorted(found)
            below = f"&max_id={page[-1]['id']}"

    def learn_position(self) -> None:
        """Learn how far the log is, from a write service that hears from it. Raises CommandFailed, Stopped."""
        deadline = self.clock() + self.patience_seconds
        while (answer := self._ask_until_answered("GET", self.write_url + "/healthz/ready")).status != http.client.OK:
            self._wait(RETRY_SECONDS, deadline, self.write_url, f"{answer.code}: {answer.detail}")

    def settle(self, passed_seconds: float = 0.0) -> None:
        """Wait until whatever was sent ``passed_seconds`` ago is in the log or never will be, and learn its head."""
        if self.stopping.wait(max(0.0, self.settle_seconds - passed_seconds)):
            raise Stopped
        self.learn_position()

    def _ask_until_answered(self, method: str, url: str, body: dict[str, Any] | None = None) -> Answer:
        """One answer that is final. A plain 503 or 429 says that nothing was done, so it is asked again."""
        deadline = self.clock() + self.patience_seconds
        while True:
            try:
                answer = self._ask(method, urlsplit(url), body)
            except NotSent as error:
                self._wait(RETRY_SECONDS, deadline, url, str(error))
                continue
            with self._lock:
                self.position = max(self.position, answer.position)
            if answer.status not in {429, 503}:
                if answer.status >= http.client.INTERNAL_SERVER_ERROR:
                    raise OutcomeUnknown(f"{url} answered {answer.status}")
                return answer
            if answer.code == OutcomeUnknown.code:
                raise OutcomeUnknown(str(answer.detail))
            self._wait(answer.retry_after_seconds, deadline, url, f"{answer.status} {answer.code}")

    def _ask(self, method: str, url: SplitResult, body: dict[str, Any] | None) -> Answer:
        """Send a request once. Raises NotSent, or OutcomeUnknown when it was sent and no answer came."""
        connection = self._take_connection(url)
        headers = self._headers(method, body)
        path = f"{url.path}?{url.query}" if url.query else url.path
        try:
            connection.request(method, path, msgspec.json.encode(body) if body is not None else None, headers)
            response = connection.getresponse()
            answer = _answer(response, response.read())
        except _NO_ANSWER as error:
            connection.close()
            raise OutcomeUnknown(f"no answer from {url.netloc} ({_name(error)})") from error
        self._idle[url.netloc].append((connection, self.clock()))
        return answer

    def _headers(self, method: str, body: dict[str, Any] | None) -> dict[str, str]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        if method == "GET" and self.position:
            headers["X-Min-Position"] = str(self.position)
        if self._are_tokens_wanted and self.tokens is not None and body is not None and "user_id" in body:
            token = self.tokens.access_token(body["user_id"], self.position)
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _take_connection(self, url: SplitResult) -> http.client.HTTPConnection:
        """An open connection to a service that nobody else uses. Raises NotSent."""
        with suppress(IndexError):
            while True:
                connection, last_used = self._idle[url.netloc].pop()
                if self.clock() - last_used < IDLE_SECONDS_MAX and connection.sock is not None:
                    return connection
                connection.close()
        connection = _new_connection(url)
        try:
            connection.connect()
        except _NO_ANSWER as error:
            raise NotSent(f"{url.netloc} cannot be reached ({_name(error)})") from error
        return connection

    def _wait(self, seconds: float, deadline: float, url: str, reason: str) -> None:
        if self.clock() + seconds > deadline:
            _give_up(url, reason)
        if self.stopping.wait(seconds):
            raise Stopped


def _new_connection(url: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.hostname or "", url.port, timeout=REQUEST_TIMEOUT_SECONDS)


def _answer(response: http.client.HTTPResponse, content: bytes) -> Answer:
    try:
        body = msgspec.json.decode(content)
    except msgspec.DecodeError:
        body = content.decode(errors="replace")
    position = response.headers.get("X-Log-Position", "0")
    retry_after = response.headers.get("Retry-After", "")
    return Answer(
        status=response.status,
        body=body,
        position=int(position) if position.isdigit() else 0,
        retry_after_seconds=float(retry_after) if retry_after.isdigit() else RETRY_SECONDS,
    )


def _name(error: BaseException) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _give_up(url: str, reason: str) -> NoReturn:
    service = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    raise CommandFailed(
        f"{service}: {reason}. Is the system running (`twitter dev`)? The same command goes on where this one stopped",
        UNAVAILABLE,
    )
