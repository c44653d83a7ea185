"""Whether a tweet or a user exists: yes and no only on proof, else unknown, and then the projection decides.

What a reader does not have is proof if it had applied the log up to the id: ids are positions, so nothing with that id
can come later. (Fixtures with ids below 2^20 are the exception; they exist before anybody asks.) An id above the head
of the log needs no proof from here: the append itself refuses it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

import msgspec
import structlog

from services.common.errors import ClientError
from services.common.ids import BEGINNING, FIXTURE_ID_MAX, position_at
from services.common.shapes import EXISTENCE_IDS_MAX, Existing, UserView
from services.common.together import Asked, Together
from services.write.clocks import TrustedClock
from services.write.keep_alive import KeepAlive, Unanswered
from services.write.known_ids import KnownIds
from services.write.metrics import ExistenceMetrics

ASK_SECONDS: Final = 0.3
PAUSE_SECONDS: Final = 0.005
"""Before a reader that is behind is asked again; then twice as long each time."""
CONNECTIONS_MAX: Final = 2  # one question is answered while the next one gathers, or one reader is silent
KNOWN_MAX: Final = 50_000  # about 5 MB

log = structlog.get_logger(__name__)

_existing: Final = msgspec.json.Decoder(Existing)


class Kind(StrEnum):
    """What may exist; the value is its name in the read service's paths."""

    TWEET = "tweets"
    USER = "users"


Subject = tuple[Kind, int]


class Verdict(StrEnum):
    """What can be said about the existence of something."""

    EXISTS = "exists"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict; who a user is, whose a tweet is, or the position at which there is no such thing."""

    verdict: Verdict
    user: UserView | None = None
    author_id: int | None = None
    position: int = BEGINNING


UNKNOWN: Final = Finding(Verdict.UNKNOWN)

Find = Callable[[Kind, int], Awaitable[Finding]]


class ReadService:
    """The read service as a witness. What is asked while questions are under way goes together into the next one."""

    def __init__(self, url: str, clock: TrustedClock) -> None:
        self._clock = clock
        self._connections = [KeepAlive(url) for _ in range(CONNECTIONS_MAX)]
        self._questions: Together[Subject, Finding | None] = Together(
            [partial(_ask, connection) for connection in self._connections], EXISTENCE_IDS_MAX
        )

    async def find(self, kind: Kind, item_id: int) -> Finding:
        """Ask within a bound, and again where a reader is behind; whatever is no proof is unknown."""
        if item_id >= position_at(self._clock.now_ms()):
            return UNKNOWN  # above the head, as far as we can see: the append will tell
        pause_seconds = PAUSE_SECONDS
        try:
            async with asyncio.timeout(ASK_SECONDS):
                while (finding := await self._questions.ask((kind, item_id))) is None:
                    await asyncio.sleep(pause_seconds)
                    pause_seconds *= 2
        except TimeoutError:
            return UNKNOWN
        return finding

    async def aclose(self) -> None:
        """Ask no more, and close the connections."""
        await self._questions.aclose()
        for connection in self._connections:
            connection.close()


async def _ask(connection: KeepAlive, asked: Sequence[Asked[Subject, Finding | None]]) -> None:
    """What a reader says to each, None if it is behind."""
    existing = await _question(connection, {subject for subject, _ in asked})
    for subject, answer in asked:
        if not answer.done():
            answer.set_result(UNKNOWN if existing is None else finding_of(subject, existing))


async def _question(connection: KeepAlive, subjects: Iterable[Subject]) -> Existing | None:
    """What a reader says there is of these; None if it does not say."""
    fields = {kind: ",".join([str(item_id) for of, item_id in subjects if of is kind]) for kind in Kind}
    query = "&".join(f"{kind}={ids}" for kind, ids in fields.items() if ids)
    try:
        async with asyncio.timeout(ASK_SECONDS):
            status, body = await connection.get(f"/internal/existence?{query}")
        if status != 200:
            raise Unanswered(f"status {status}")
        return _existing.decode(body)
    except (Unanswered, TimeoutError, msgspec.MsgspecError) as error:
        log.debug("read_service_silent", reason=repr(error))
        return None


def finding_of(subject: Subject, existing: Existing) -> Finding | None:
    """What this says about one of those that were asked about; None if it is too old to say anything."""
    kind, item_id = subject
    if kind is Kind.TWEET and item_id in existing.authors:
        return Finding(Verdict.EXISTS, author_id=existing.authors[item_id])
    if kind is Kind.USER and item_id in existing.users:
        return Finding(Verdict.EXISTS, user=existing.users[item_id])
    is_proof = item_id <= max(existing.position, FIXTURE_ID_MAX)
    return Finding(Verdict.ABSENT, position=existing.position) if is_proof else None


class Existence:
    """Remembers what is known to exist, and asks about the rest; one question at a time about each id."""

    def __init__(self, find: Find, *, metrics: ExistenceMetrics, known_max: int = KNOWN_MAX) -> None:
        self._find = find
        self._metrics = metrics
        self._known = KnownIds(known_max)
        self._questions: dict[Subject, asyncio.Task[Finding]] = {}

    def remember(self, kind: Kind, item_id: int) -> None:
        """Note that something exists, for example because we have just created it."""
        self._known.add(_number(kind, item_id))

    def forget(self, kind: Kind, item_id: int) -> None:
        """Note that something may be gone: ask again."""
        self._known.discard(_number(kind, item_id))

    def forget_all(self) -> None:
        """Take nothing for known any more: the log lost entries, and with them some of what existed."""
        self._known.clear()

    def knows(self, kind: Kind, item_id: int) -> bool:
        """Whether something is known to exist, without asking; a no means nothing."""
        if _number(kind, item_id) not in self._known:
            return False
        self._metrics.count("known")
        return True

    async def refuse_absent(self, *subjects: Subject) -> None:
        """Raise the 404 for the first of these that provably does not exist; asks about all at once."""
        questions = [self.find(*subject) for subject in subjects if not self.knows(*subject)]
        if len(questions) == 1:
            await questions[0]
        elif questions:
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


def _number(kind: Kind, item_id: int) -> int:
    """A subject in one integer: a user's id below zero. A pair for each takes a hundred bytes more."""
    return item_id if kind is Kind.TWEET else -item_id


def not_found(kind: Kind) -> ClientError:
    """The 404 for a tweet or a user."""
    if kind is Kind.TWEET:
        return ClientError(404, "tweet_not_found", "Tweet not found")
    return ClientError(404, "user_not_found", "User not found")
