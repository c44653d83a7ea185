"""A 404 only on proof, and one question at a time about each id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from prometheus_client import CollectorRegistry

from services.common.errors import ClientError
from services.common.ids import FIXTURE_ID_MAX, POSITION_MAX, position_at
from services.common.shapes import UserView
from services.write.authors import FRESH_SECONDS, KEPT_SECONDS, Authors
from services.write.clocks import TrustedClock
from services.write.existence import UNKNOWN, Existence, Finding, Kind, ReadService, Verdict
from services.write.metrics import ExistenceMetrics

pytestmark = pytest.mark.anyio

NOW_MS = 1_800_000_000_000
TWEET = position_at(NOW_MS - 60_000)
ADA = UserView(id=TWEET, username="ada", created_at="2027-01-15T07:59:00.000Z", followers_count=3, following_count=4)
ADA_JSON = (
    f'{{"id":{TWEET},"username":"ada","created_at":"2027-01-15T07:59:00.000Z","followers_count":3,"following_count":4}}'
).encode()


def read_service(answer: Callable[[httpx.Request], httpx.Response]) -> ReadService:
    """A read service that answers as the test says."""
    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://read")
    return ReadService(client, TrustedClock(wall_ms=lambda: NOW_MS, elapsed=lambda: 0))


def missing(position: int | None, code: str = "tweet_not_found") -> httpx.Response:
    """A 404 of a reader that has applied the log up to ``position``."""
    headers = {} if position is None else {"X-Log-Position": str(position)}
    return httpx.Response(404, headers=headers, json={"detail": "Tweet not found", "code": code})


class FakeFind:
    """Finds what the test says, when it says so; counts the questions."""

    def __init__(self, finding: Finding, *, is_held: bool = False) -> None:
        self.finding = finding
        self.questions: list[tuple[Kind, int]] = []
        self.go = asyncio.Event()
        if not is_held:
            self.go.set()

    async def find(self, kind: Kind, item_id: int) -> Finding:
        """A ``Find``."""
        self.questions.append((kind, item_id))
        await self.go.wait()
        return self.finding


def existence_of(find: FakeFind, known_max: int = 100) -> Existence:
    """An Existence that asks there."""
    return Existence(find.find, metrics=ExistenceMetrics(CollectorRegistry()), known_max=known_max)


@pytest.mark.parametrize("position", [TWEET, TWEET + 1])
async def test_a_404_at_or_past_the_id_is_proof(position: int) -> None:
    """The reader has applied everything that could have made it."""
    finding = await read_service(lambda _: missing(position)).find(Kind.TWEET, TWEET)
    assert finding.verdict is Verdict.ABSENT


@pytest.mark.parametrize(
    "answer",
    [
        missing(TWEET - 1),  # not there yet
        missing(None),  # not our reader
        missing(TWEET, code="not_found"),  # no such route: a proxy, or another service
        httpx.Response(404, headers={"X-Log-Position": str(TWEET)}, text="<html>"),
        httpx.Response(404, headers={"X-Log-Position": str(TWEET)}, json=[]),
        httpx.Response(503, json={"code": "position_not_reached"}),
        httpx.Response(302, headers={"Location": "/"}),
        httpx.Response(500),
    ],
)
async def test_any_other_refusal_proves_nothing(answer: httpx.Response) -> None:
    """The projection decides then."""
    assert await read_service(lambda _: answer).find(Kind.TWEET, TWEET) == UNKNOWN


async def test_the_reader_is_asked_to_have_reached_the_id() -> None:
    """Otherwise the 404 of a reader that is behind would be most of its answers about a fresh tweet."""
    asked: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("X-Min-Position"))
        return missing(TWEET)

    await read_service(answer).find(Kind.TWEET, TWEET)
    await read_service(answer).find(Kind.TWEET, FIXTURE_ID_MAX)
    assert asked == [str(TWEET), None]


async def test_a_fixture_is_absent_wherever_the_reader_is() -> None:
    """Its id is no position."""
    finding = await read_service(lambda _: missing(0)).find(Kind.TWEET, 7)
    assert finding.verdict is Verdict.ABSENT


@pytest.mark.parametrize("item_id", [position_at(NOW_MS), POSITION_MAX])
async def test_nobody_is_asked_about_the_future(item_id: int) -> None:
    """The append refuses what is above the head; a reader would only wait for it."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"asked for {request.url}")

    assert await read_service(answer).find(Kind.TWEET, item_id) == UNKNOWN


async def test_an_unreachable_reader_proves_nothing() -> None:
    """Refused, cut or mute."""

    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("cut", request=request)

    assert await read_service(answer).find(Kind.USER, TWEET) == UNKNOWN


async def test_what_exists_comes_with_its_representation() -> None:
    """So that the author of a tweet costs no second question."""
    service = read_service(lambda request: httpx.Response(200, content=str(request.url.path).encode()))
    assert await service.find(Kind.USER, TWEET) == Finding(Verdict.EXISTS, f"/users/{TWEET}".encode())


async def test_what_is_known_is_not_asked_again() -> None:
    """Found once, or created here: it exists for good, as far as a 404 goes."""
    find = FakeFind(Finding(Verdict.EXISTS))
    existence = existence_of(find)
    existence.remember(Kind.USER, 5)
    for _ in range(3):
        await existence.refuse_absent((Kind.TWEET, 5), (Kind.USER, 5))
    assert find.questions == [(Kind.TWEET, 5)]


@pytest.mark.parametrize(("kind", "code"), [(Kind.TWEET, "tweet_not_found"), (Kind.USER, "user_not_found")])
async def test_what_provably_does_not_exist_is_a_404(kind: Kind, code: str) -> None:
    """With a code of its own."""
    with pytest.raises(ClientError) as refusal:
        await existence_of(FakeFind(Finding(Verdict.ABSENT))).refuse_absent((kind, 5))
    assert (refusal.value.status, refusal.value.code) == (404, code)


async def test_the_unknown_passes_and_is_asked_again() -> None:
    """It is not remembered as existing."""
    find = FakeFind(UNKNOWN)
    existence = existence_of(find)
    await existence.refuse_absent((Kind.TWEET, 5))
    await existence.refuse_absent((Kind.TWEET, 5))
    assert len(find.questions) == 2


async def test_concurrent_questions_about_one_id_are_one_question() -> None:
    """A tweet that goes viral is asked for once; a client that leaves takes nobody's answer with it."""
    find = FakeFind(Finding(Verdict.ABSENT), is_held=True)
    existence = existence_of(find)
    tasks = [asyncio.create_task(existence.refuse_absent((Kind.TWEET, 5))) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    find.go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, ClientError) for result in results[1:])
    assert len(find.questions) == 1


async def test_what_is_known_is_bounded_and_forgets_the_least_used() -> None:
    """Memory has a limit; forgetting costs a question."""
    find = FakeFind(Finding(Verdict.EXISTS))
    existence = existence_of(find, known_max=2)
    existence.remember(Kind.TWEET, 1)
    existence.remember(Kind.TWEET, 2)
    await existence.refuse_absent((Kind.TWEET, 1))
    existence.remember(Kind.TWEET, 3)
    await existence.refuse_absent((Kind.TWEET, 1), (Kind.TWEET, 3), (Kind.TWEET, 2))
    assert find.questions == [(Kind.TWEET, 2)]


def in_seconds(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the clock of the event loop be so much later, and stand still."""
    loop = asyncio.get_running_loop()
    later = loop.time() + seconds
    monkeypatch.setattr(loop, "time", lambda: later)


async def test_an_author_is_looked_up_once_in_a_few_seconds() -> None:
    """Her counters may be that old in the answer to a tweet."""
    find = FakeFind(Finding(Verdict.EXISTS, ADA_JSON))
    authors = Authors(existence_of(find))
    assert [await authors.view(ADA.id) for _ in range(3)] == [ADA] * 3
    assert len(find.questions) == 1


async def test_a_view_that_is_not_fresh_is_renewed_beside_the_tweets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the reader, and many tweets ask it once."""
    find = FakeFind(Finding(Verdict.EXISTS, ADA_JSON), is_held=True)
    authors = Authors(existence_of(find))
    old = UserView(ADA.id, "ada", ADA.created_at, 1, 1)
    authors.remember(old)
    in_seconds(monkeypatch, FRESH_SECONDS + 1)
    assert [await authors.view(ADA.id) for _ in range(3)] == [old] * 3
    find.go.set()
    await asyncio.gather(*authors._refreshes.values())
    assert [await authors.view(ADA.id) for _ in range(3)] == [ADA] * 3
    assert len(find.questions) == 1


async def test_a_view_that_cannot_be_renewed_is_shown_for_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the reader is silent it may have changed by more than anybody wants to see."""
    find = FakeFind(UNKNOWN)
    authors = Authors(existence_of(find))
    authors.remember(ADA)
    in_seconds(monkeypatch, KEPT_SECONDS - 1)
    assert await authors.view(ADA.id) == ADA
    await asyncio.gather(*authors._refreshes.values())
    in_seconds(monkeypatch, 2)
    assert await authors.view(ADA.id) is None


@pytest.mark.parametrize("is_absent", [True, False])
async def test_an_author_who_is_gone_is_not_shown_from_memory(monkeypatch: pytest.MonkeyPatch, is_absent: bool) -> None:
    """Once the reader has said so, or the log has lost entries, she is asked about anew."""
    find = FakeFind(Finding(Verdict.ABSENT))
    authors = Authors(existence_of(find))
    authors.remember(ADA)
    if is_absent:
        in_seconds(monkeypatch, FRESH_SECONDS + 1)
        assert await authors.view(ADA.id) == ADA
        await asyncio.gather(*authors._refreshes.values())
    else:
        authors.forget_all()
    with pytest.raises(ClientError, match="User not found"):
        await authors.view(ADA.id)


async def test_an_author_who_provably_does_not_exist_is_a_404() -> None:
    """Before anything is written."""
    with pytest.raises(ClientError, match="User not found"):
        await Authors(existence_of(FakeFind(Finding(Verdict.ABSENT)))).view(5)


async def test_the_authors_kept_are_bounded() -> None:
    """The one not seen for longest goes."""
    find = FakeFind(UNKNOWN)
    authors = Authors(existence_of(find), authors_max=2)
    for user_id in (1, 2, 3):
        authors.remember(UserView(user_id, "x", "", 0, 0))
    assert [await authors.view(user_id) is None for user_id in (1, 2, 3)] == [True, False, False]
