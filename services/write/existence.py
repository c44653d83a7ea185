"""Whether a tweet or a user exists: yes and no only on proof, else unknown, and then the projection decides.

A 404 of the read service is proof if it had applied the log up to the id: ids are positions, so nothing with that id
can come later. (Fixtures with ids below 2^20 are the exception; they exist before anybody asks.) An id above the head
of the log needs no proof from here: the append itself refuses it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import httpx
import msgspec
import structlog

from services.common.errors import ClientError
from services.common.ids import BEGINNING, FIXTURE_ID_MAX, position_at
from services.write.clocks import TrustedClock
from services.write.metrics import ExistenceMetrics

ASK_SECONDS: Final = 0.3
CONNECTIONS_MAX: Final = 32
KNOWN_MAX: Final = 100_000  # about 15 MB

log = structlog.get_logger(__name__)


class Kind(StrEnum):
    """What may exist; the value is its name in the read service's paths."""

    TWEET = "tweets"
    USER = "users"


class Verdict(StrEnum):
    """What can be said about the existence of something."""

    EXISTS = "exists"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict, the read service's representation of what exists, the position at which something is absent."""

    verdict: Verdict
    body: bytes = b""
    position: int = BEGINNING


UNKNOWN: Final = Finding(Verdict.UNKNOWN)

Find = Callable[[Kind, int], Awaitable[Finding]]


class ReadService:
    """The read service as a witness; CONNECTIONS_MAX questions at a time.

    httpcore's pool forgets nothing that gives up while it waits for a place, or that is cancelled: after one stall of
    the read service all places were taken for ever, and nobody was asked any more. So the client's pool must have no
    limit, places are given out here, and a request that nobody waits for any more ends by its own timeouts.
    """

    def __init__(self, client: httpx.AsyncClient, clock: TrustedClock) -> None:
        self._client = client
        self._clock = clock
        self._places = asyncio.Semaphore(CONNECTIONS_MAX)
        self._requests: set[asyncio.Task[httpx.Response]] = set()

    async def find(self, kind: Kind, item_id: int) -> Finding:
        """Ask once, within a bound; whatever is no proof is unknown."""
        if item_id >= position_at(self._clock.now_ms()):
            return UNKNOWN  # above the head, as far as we can see: the append will tell
        headers = {} if item_id <= FIXTURE_ID_MAX else {"X-Min-Position": str(item_id)}
        try:
            async with asyncio.timeout(ASK_SECONDS):
                answer = await asyncio.shield(await self._request(f"/{kind}/{item_id}", headers))
        except (httpx.HTTPError, TimeoutError, AttributeError) as error:
            # AttributeError: anyio's, when a connection is lost just as httpcore asks it for its address.
            log.debug("read_service_silent", kind=kind, id=item_id, reason=repr(error))
            return UNKNOWN
        if answer.status_code == httpx.codes.OK:
            return Finding(Verdict.EXISTS, answer.content)
        if answer.status_code == httpx.codes.NOT_FOUND and _is_proof(answer, kind, item_id):
            return Finding(Verdict.ABSENT, position=int(answer.headers["X-Log-Position"]))
        return UNKNOWN

    async def _request(self, path: str, headers: dict[str, str]) -> asyncio.Task[httpx.Response]:
        """A request that is on its way, once there is a place for it."""
        await self._places.acquire()
        request = asyncio.ensure_future(self._client.get(path, headers=headers, timeout=ASK_SECONDS))
        self._requests.add(request)
        request.add_done_callback(self._end)
        return request

    def _end(self, request: asyncio.Task[httpx.Response]) -> None:
        self._places.release()
        self._requests.discard(request)
        if not request.cancelled():
            request.exception()  # so that nobody complains of it where nobody waits for it any more


class Existence:
    """Remembers what is known to exist, and asks about the rest; one question at a time about each id."""

    def __init__(self, find: Find, *, metrics: ExistenceMetrics, known_max: int = KNOWN_MAX) -> None:
        self._find = find
        self._metrics = metrics
        self._known_max = known_max
        self._known: OrderedDict[tuple[Kind, int], None] = OrderedDict()
        self._questions: dict[tuple[Kind, int], asyncio.Task[Finding]] = {}

    def remember(self, kind: Kind, item_id: int) -> None:
        """Note that something exists, for example because we have just created it."""
        self._known[kind, item_id] = None
        self._known.move_to_end((kind, item_id))
        if len(self._known) > self._known_max:
            self._known.popitem(last=False)

    def forget(self, kind: Kind, item_id: int) -> None:
        """Note that something may be gone: ask again."""
        self._known.pop((kind, item_id), None)

    def forget_all(self) -> None:
        """Take nothing for known any more: the log lost entries, and with them some of what existed."""
        self._known.clear()

    def knows(self, kind: Kind, item_id: int) -> bool:
        """Whether something is known to exist, without asking; a no means nothing."""
        subject = (kind, item_id)
        if subject not in self._known:
            return False
        self._known.move_to_end(subject)
        self._metrics.count("known")
        return True

    async def refuse_absent(self, *subjects: tuple[Kind, int]) -> None:
        """Raise the 404 for the first of these that provably does not exist; asks about all at once."""
        questions = [self.find(*subject) for subject in subjects if not self.knows(*subject)]
        if questions:
            await asyncio.gather(*questions)

    async def find(self, kind: Kind, item_id: int) -> Finding:
        """Ask the read service. Raises the 404 for something that provably does not exist."""
        finding = await self.look(kind, item_id)
        if finding.verdict is Verdict.ABSENT:
            raise not_found(kind)
        return finding

    async def look(self, kind: Kind, item_id: int) -> Finding:
        """Ask the read service, also about what may be gone."""
        finding = await self._share(kind, item_id)
        self._metrics.count(finding.verdict)
        if finding.verdict is Verdict.EXISTS:
            self.remember(kind, item_id)
        return finding

    async def _share(self, kind: Kind, item_id: int) -> Finding:
        question = self._questions.get((kind, item_id))
        if question is None:
            question = asyncio.ensure_future(self._find(kind, item_id))
            self._questions[kind, item_id] = question
            question.add_done_callback(lambda _: self._questions.pop((kind, item_id)))
        return await asyncio.shield(question)  # another request may wait for the same answer


def not_found(kind: Kind) -> ClientError:
    """The 404 for a tweet or a user."""
    if kind is Kind.TWEET:
        return ClientError(404, "tweet_not_found", "Tweet not found")
    return ClientError(404, "user_not_found", "User not found")


def _is_proof(answer: httpx.Response, kind: Kind, item_id: int) -> bool:
    """Whether a 404 is about this id, and from a reader that would know it."""
    try:
        code = msgspec.json.decode(answer.content, type=dict[str, object]).get("code")
        position = int(answer.headers.get("X-Log-Position", ""))
    except (msgspec.MsgspecError, ValueError):
        return False
    needed = BEGINNING if item_id <= FIXTURE_ID_MAX else item_id
    return code == not_found(kind).code and position >= needed
