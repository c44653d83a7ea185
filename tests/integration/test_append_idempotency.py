"""append.lua under idempotency keys: decided in the call that appends, remembered for a day without a time to live."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from services.common import keys
from services.common.events import TokensRevoked, TweetCreated, UserCreated
from services.common.ids import position_at
from services.common.log.append import AppendItem, CredentialClaim, Repeated, TokenHolder
from services.common.log.client import EventLog
from services.common.log.idempotency import HOUR_MS, WINDOW_HOURS, IdempotencyClaim, first_hour, hour_of
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog

ZEROS, COLONS, BREAKS = bytes(16), b":" * 16, b"\n" * 16  # digests may be any bytes


@pytest.fixture
def log(redis_server: RedisServer) -> ScriptedLog:
    """A started log with a clock of its own, in the last second of an hour."""
    return ScriptedLog.started(redis_server.url, now_ms=1_800_000_000_000 // HOUR_MS * HOUR_MS + HOUR_MS - 1000)


def tweet(scope: bytes = ZEROS, fingerprint: bytes = COLONS, **more: TokenHolder | int) -> AppendItem:
    """A tweet under a claim."""
    return AppendItem(TweetCreated(user_id=1, content="x"), claim=IdempotencyClaim(scope, fingerprint), **more)  # type: ignore[arg-type]


def user(username: str, scope: bytes) -> AppendItem:
    """A new account under a claim."""
    claim = IdempotencyClaim(scope, COLONS)
    return AppendItem(UserCreated(username), credential=CredentialClaim("a@b.c", username, "hash"), claim=claim)


@pytest.mark.parametrize("fingerprint", [ZEROS, COLONS, BREAKS])
def test_what_was_appended_under_a_claim_is_not_appended_again(log: ScriptedLog, fingerprint: bytes) -> None:
    """In a later call and in the same one; under another fingerprint it is refused; another scope shares nothing."""
    first, again, other = log.call([tweet(ZEROS, fingerprint), tweet(ZEROS, fingerprint), tweet(BREAKS)]).results
    assert again == Repeated(int(first))
    assert isinstance(other, int)
    before = log.positions()
    later = log.call([tweet(ZEROS, fingerprint), tweet(ZEROS, b"another request.")])
    assert later.results == [Repeated(int(first)), "idempotency_mismatch"]
    assert log.positions() == before
    assert later.head == before[-1]


def test_a_repetition_is_known_before_anything_else_is_decided(log: ScriptedLog) -> None:
    """A name that the first call took is no reason to refuse the second; nor is what is gone meanwhile."""
    (ada,) = log.call([user("ada", ZEROS)]).results
    assert log.call([user("ada", ZEROS), user("ada", BREAKS)]).results == [Repeated(int(ada)), "username_taken"]
    (first,) = log.call([tweet(COLONS)]).results
    assert log.call([tweet(COLONS, target=2**52)]).results == [Repeated(int(first))]
    assert log.call([tweet(BREAKS, target=2**52)]).results == ["not_found"]


def test_a_refusal_is_not_remembered(log: ScriptedLog) -> None:
    """Nothing was done under the key, so it is still to be had."""
    log.call([user("ada", ZEROS)])
    assert log.call([user("ada", BREAKS)]).results == ["username_taken"]
    assert isinstance(log.call([user("eve", BREAKS)]).results[0], int)


def test_who_may_not_act_is_told_no_answer_either(log: ScriptedLog) -> None:
    """A revoked token gets nothing, a repetition included."""
    (ada,) = log.call([user("ada", BREAKS)]).results
    holder = TokenHolder(int(ada), int(ada))
    log.call([tweet(holder=holder)])
    log.call([AppendItem(TokensRevoked(user_id=int(ada)), holder=holder)])
    assert log.call([tweet(holder=holder)]).results == ["token_revoked"]


def test_a_claim_is_remembered_for_its_whole_window(log: ScriptedLog) -> None:
    """Over the full hour it began in, and not once that is out of the window; the owner then drops it whole."""
    (first,) = log.call([tweet()]).results
    log.set_time(log.now_ms + WINDOW_HOURS * HOUR_MS)
    assert log.call([tweet()]).results == [Repeated(int(first))]
    log.set_time(log.now_ms + 1000)
    (second,) = log.call([tweet()]).results
    assert isinstance(second, int)
    assert second > int(first)
    assert log.call([tweet()]).results == [Repeated(second)]
    owner = EventLog(log.url)
    assert owner.drop_answers(first_hour(second))
    assert not owner.drop_answers(first_hour(second))
    assert log.redis.keys(f"{keys.IDEMPOTENCY_PREFIX}[0-9]*") == [keys.idempotency(hour_of(second)).encode()]
    assert log.redis.smembers(keys.IDEMPOTENCY_HOURS) == {str(hour_of(second)).encode()}
    assert log.call([tweet()]).results == [Repeated(second)]


def test_a_clock_that_steps_back_forgets_nothing(log: ScriptedLog) -> None:
    """An answer is kept by the hour of its position, which may lie ahead of the clock."""
    log.set_time(log.now_ms + 1000)
    (first,) = log.call([tweet()]).results
    log.set_time(log.now_ms - HOUR_MS)
    assert log.call([tweet()], clock_ms=log.now_ms).results == [Repeated(int(first))]
    assert int(first) == position_at(log.now_ms + HOUR_MS)


def test_nothing_that_is_remembered_can_be_evicted(log: ScriptedLog) -> None:
    """HAZARDS 3: no time to live."""
    log.call([tweet()])
    kept = log.redis.keys(f"{keys.IDEMPOTENCY_PREFIX}*")
    assert len(kept) == 2
    assert [log.redis.ttl(key) for key in kept] == [-1, -1]


def test_the_claim_is_in_the_entry_for_the_owner(log: ScriptedLog) -> None:
    """Only where there was one."""
    log.call([AppendItem(TweetCreated(user_id=1, content="x")), tweet(BREAKS, ZEROS)])
    *_, without, under = EventLog(log.url).read(0)
    assert (without.claim, under.claim) == (b"", BREAKS + ZEROS)
    assert under.kept == replace(under, claim=b"")
