"""A steady stream of requests as clients send them: each once, on time whether or not the last one was answered."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import httpx

from tests.e2e.figures import Figures
from tests.e2e.wait import eventually

REQUESTS_PER_SECOND: Final = int(os.environ.get("E2E_REQUESTS_PER_SECOND", "200"))
SHARE_OF_WRITES: Final = 0.1
TIMEOUT_SECONDS: Final = 15.0
RECENT: Final = 200
"""Of how many of the newest tweets one is read."""

SETTLED: Final = int(5 * REQUESTS_PER_SECOND * SHARE_OF_WRITES)
"""So many tweets later, which is five seconds, every reader has seen a tweet."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that did not get what it asked for; ``status`` is 0 where there was no answer."""

    method: str
    status: int
    reason: str
    has_retry_after: bool

    def __str__(self) -> str:
        return f"{self.method} {self.status} {self.reason}"


@dataclass
class Load:
    """Posts and reads tweets of one user, as a context manager; the failures are complete when it has exited.

    With ``asks_for_newest`` a read asks for one of the latest tweets, and for the newest position that an answer has
    told (X-Min-Position): an older state is a failure. Without it, it asks for what readers have seen for long, which
    is all that they can answer when Redis is gone.
    """

    url: str
    asks_for_newest: bool = True
    answered: int = 0
    failures: list[Failure] = field(default_factory=list)
    acknowledged: dict[int, str] = field(default_factory=dict)
    """The tweets that were answered with 201: their text by id."""
    _position: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        with client(self.url) as http:
            name = f"load_{random.randrange(16**8):08x}"
            answer = http.post("/users", json={"username": name, "email": f"{name}@example.com"})
            assert answer.status_code == httpx.codes.CREATED, answer.text
            user = answer.json()
        self.user_id, self._token = user["id"], user["access_token"]
        self._started_at = time.monotonic()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()))
        self._thread.start()
        self.go_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def go_on(self, requests: int = 2 * REQUESTS_PER_SECOND) -> None:
        """Wait until so many more requests were answered or have failed."""
        goal = self.answered + len(self.failures) + requests
        eventually(lambda: self.answered + len(self.failures) >= goal, describe=lambda: self.report)

    def wait_for_calm(self) -> None:
        """Wait until as many requests as two seconds have were answered without a failure."""

        def is_calm() -> bool:
            known = len(self.failures)
            self.go_on()
            return len(self.failures) == known

        eventually(is_calm, describe=lambda: self.report)

    @property
    def report(self) -> str:
        """How many requests got what they asked for, and what became of the others."""
        kinds = Counter(str(failure) for failure in self.failures)
        seconds = time.monotonic() - self._started_at
        return f"{self.answered} answered in {seconds:.0f} s, {len(self.failures)} failed: {dict(kinds)}"

    def tweets(self) -> dict[int, str]:
        """What the user has posted, as a reader that knows everything acknowledged shows it now: text by id."""
        found: dict[int, str] = {}
        with client(self.url) as http:
            http.headers["X-Min-Position"] = str(max(self.acknowledged))
            path: str | None = f"/users/{self.user_id}/tweets?limit=100"
            while path is not None:
                answer = http.get(path)
                assert answer.status_code == httpx.codes.OK, answer.text
                found |= {tweet["id"]: tweet["content"] for tweet in answer.json()}
                path = answer.links.get("next", {}).get("url")
        return found

    async def _send(self) -> None:
        start, number = time.monotonic(), 0
        # aiohttp costs a tenth of httpx' processor time, which here would be taken from the system that is measured.
        async with (
            aiohttp.ClientSession(
                self.url, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(TIMEOUT_SECONDS)
            ) as http,
            asyncio.TaskGroup() as tasks,
        ):
            http._retry_connection = False  # an attempt that fails is a failure
            while not self._is_over.is_set():
                number += 1
                tasks.create_task(self._write(http, number) if self._is_write() else self._read(http))
                await asyncio.sleep(max(0.0, start + number / REQUESTS_PER_SECOND - time.monotonic()))

    def _is_write(self) -> bool:
        return not self.acknowledged or random.random() < SHARE_OF_WRITES

    async def _write(self, http: aiohttp.ClientSession, number: int) -> None:
        text = f"tweet {number}"
        body = await self._ask(
            http, "POST", "/tweets", json={"content": text}, headers={"Authorization": f"Bearer {self._token}"}
        )
        if body is not None:
            self.acknowledged[body["id"]] = text

    async def _read(self, http: aiohttp.ClientSession) -> None:
        tweets = list(self.acknowledged)
        if not self.asks_for_newest:
            tweets = tweets[:-SETTLED] or tweets[:1]
        tweet_id = random.choice(tweets[-RECENT:])
        headers = {"X-Min-Position": str(self._position)} if self.asks_for_newest else {}
        body = await self._ask(http, "GET", f"/tweets/{tweet_id}", headers=headers)
        if body is not None and body["content"] != self.acknowledged[tweet_id]:
            self.failures.append(Failure("GET", 200, f"another text: {body}", has_retry_after=False))

    async def _ask(self, http: aiohttp.ClientSession, method: str, path: str, **options: Any) -> dict[str, Any] | None:
        """The answer's body, or None after noting the failure."""
        try:
            async with http.request(method, path, **options) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(Failure(method, 0, type(error).__name__, has_retry_after=False))
            return None
        if not answer.ok:
            self.failures.append(Failure(method, answer.status, text[:200], "Retry-After" in answer.headers))
            return None
        self.answered += 1
        self._position = max(self._position, int(answer.headers["X-Log-Position"]))
        body: dict[str, Any] = json.loads(text)
        return body


def client(url: str) -> httpx.Client:
    """A client that sends each request once."""
    return httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False)


def check_nothing_failed(load: Load, figures: Figures) -> None:
    """Nothing failed, and what was acknowledged is there, once."""
    figures(load.report)
    assert load.failures == [], load.report
    assert load.tweets() == load.acknowledged


def check_only_writes_failed(load: Load, figures: Figures) -> None:
    """As they may while Redis is away; what was acknowledged is there, and nothing is there twice."""
    figures(load.report)
    kinds = {(one.method, one.status, one.has_retry_after) for one in load.failures}
    assert kinds <= {("POST", 503, True)}, load.report
    shown = load.tweets()
    assert load.acknowledged.items() <= shown.items()
    assert len(set(shown.values())) == len(shown), "a tweet was posted twice"
