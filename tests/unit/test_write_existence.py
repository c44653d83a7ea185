"""A 404 only on proof, and one question at a time about each id."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from services.common.errors import ClientError
from services.common.ids import FIXTURE_ID_MAX, position_at
from services.common.shapes import Existing, UserView
from services.write.authors import FRESH_SECONDS, KEPT_SECONDS, Authors
from services.write.existence import UNKNOWN, Existence, Finding, Kind, Verdict, finding_of
from services.write.metrics import ExistenceMetrics
from tests.support.clock import Clock

pytestmark = pytest.mark.anyio

NOW_MS = 1_800_000_000_000
TWEET = position_at(NOW_MS - 60_000)
ADA = UserView(id=TWEET, username="ada", created_at="2027-01-15T07:59:00.000Z", followers_count=3, following_count=4)


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


def there_is(position: int, *users: UserView, **authors: int) -> Existing:
    """What a reader at a position says; authors are by the ids of their tweets, ``t7=1``."""
    return Existing(position, {int(name[1:]): author for name, author in authors.items()}, {u.id: u for u in users})


@pytest.mark.parametrize("position", [TWEET, TWEET + 1])
@pytest.mark.parametrize("kind", Kind)
def test_what_a_reader_at_or_past_the_id_does_not_have_is_absent(kind: Kind, position: int) -> None:
    """The reader has applied everything that could have made it."""
    other = ADA if kind is Kind.TWEET else UserView(1, "eve", "", 0, 0)
    assert finding_of((kind, TWEET), there_is(position, other, t1=1)) == Finding(Verdict.ABSENT, position=position)


@pytest.mark.parametrize("kind", Kind)
def test_a_reader_that_is_behind_proves_nothing(kind: Kind) -> None:
    """It may come yet."""
    assert finding_of((kind, TWEET), there_is(TWEET - 1)) is None


def test_a_fixture_is_absent_wherever_the_reader_is() -> None:
    """Its id is no position."""
    assert finding_of((Kind.TWEET, FIXTURE_ID_MAX), there_is(0)) == Finding(Verdict.ABSENT)
    assert finding_of((Kind.TWEET, FIXTURE_ID_MAX + 1), there_is(0)) is None


def test_what_exists_comes_with_what_is_needed_of_it() -> None:
    """So that the author of a tweet costs no second question; a user with a tweet's id is no tweet."""
    existing = there_is(TWEET, ADA, t7=1)
    assert finding_of((Kind.USER, ADA.id), existing) == Finding(Verdict.EXISTS, user=ADA)
    assert finding_of((Kind.TWEET, 7), existing) == Finding(Verdict.EXISTS, author_id=1)
    assert finding_of((Kind.TWEET, ADA.id), existing) == Finding(Verdict.ABSENT, position=TWEET)
    assert finding_of((Kind.USER, 7), existing) == Finding(Verdict.ABSENT, position=TWEET)


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


async def test_a_tweet_that_is_known_is_no_user() -> None:
    """Each is known, forgotten and asked about by itself, also where both have the same id."""
    find = FakeFind(Finding(Verdict.EXISTS))
    existence = existence_of(find)
    for kind, other in ((Kind.TWEET, Kind.USER), (Kind.USER, Kind.TWEET)):
        existence.remember(kind, 5)
        assert existence.knows(kind, 5)
        assert not existence.knows(other, 5)
        existence.forget(other, 5)
        assert existence.knows(kind, 5)
        existence.forget(kind, 5)
        assert not existence.knows(kind, 5)
        existence.remember(kind, 5)
        existence.forget_all()
        assert not existence.knows(kind, 5)


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


async def test_an_author_is_looked_up_once_in_a_few_seconds() -> None:
    """Her counters may be that old in the answer to a tweet."""
    find = FakeFind(Finding(Verdict.EXISTS, user=ADA))
    authors = Authors(existence_of(find))
    assert [await authors.view(ADA.id) for _ in range(3)] == [ADA] * 3
    assert len(find.questions) == 1


async def test_a_view_that_is_not_fresh_is_renewed_beside_the_tweets() -> None:
    """Nobody waits for the reader, and many tweets ask it once."""
    find = FakeFind(Finding(Verdict.EXISTS, user=ADA), is_held=True)
    clock = Clock()
    authors = Authors(existence_of(find), monotonic=clock)
    old = UserView(ADA.id, "ada", ADA.created_at, 1, 1)
    authors.remember(old)
    clock.seconds += FRESH_SECONDS + 1
    assert [await authors.view(ADA.id) for _ in range(3)] == [old] * 3
    find.go.set()
    await asyncio.gather(*authors._refreshes.values())
    assert [await authors.view(ADA.id) for _ in range(3)] == [ADA] * 3
    assert len(find.questions) == 1


async def test_a_view_that_cannot_be_renewed_is_shown_for_a_bounded_time() -> None:
    """While the reader is silent it may have changed by more than anybody wants to see."""
    find = FakeFind(UNKNOWN)
    clock = Clock()
    authors = Authors(existence_of(find), monotonic=clock)
    authors.remember(ADA)
    clock.seconds += KEPT_SECONDS - 1
    assert await authors.view(ADA.id) == ADA
    await asyncio.gather(*authors._refreshes.values())
    clock.seconds += 2
    assert await authors.view(ADA.id) is None


@pytest.mark.parametrize("is_absent", [True, False])
async def test_an_author_who_is_gone_is_not_shown_from_memory(is_absent: bool) -> None:
    """Once the reader has said so, or the log has lost entries, she is asked about anew."""
    find = FakeFind(Finding(Verdict.ABSENT))
    clock = Clock()
    authors = Authors(existence_of(find), monotonic=clock)
    authors.remember(ADA)
    if is_absent:
        clock.seconds += FRESH_SECONDS + 1
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
