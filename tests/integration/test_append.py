"""append.lua on a real server: one atomic call a batch, positions that only ascend, nothing twice, nothing half."""

from __future__ import annotations

from itertools import pairwise

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from services.common import events, keys
from services.common.errors import DeadlinePassed, WritesRefused
from services.common.events import TweetCreated, TweetDeleted, TweetLiked, UserCreated
from services.common.ids import POSITION_MAX, entry_id, unix_ms_of
from services.common.log.append import AppendItem, CredentialClaim
from services.common.log.client import EventLog
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS


@pytest.fixture
def log(redis_server: RedisServer) -> ScriptedLog:
    """A started log with a clock of its own."""
    return ScriptedLog.started(redis_server.url)


def tweet(content: str = "hello") -> AppendItem:
    """A tweet of user 1; the log does not ask whether there is one."""
    return AppendItem(TweetCreated(user_id=1, content=content))


def user(username: str, email_hmac: str, fixture_id: int | None = None) -> AppendItem:
    """A new account."""
    claim = CredentialClaim(email=f"{email_hmac}@example.org", email_hmac=email_hmac, password_hash="hash")
    return AppendItem(UserCreated(username=username, id=fixture_id), credential=claim)


def ascending(positions: list[int]) -> bool:
    """Whether each position is above the one before."""
    return all(before < after for before, after in pairwise(positions))


def test_each_entry_names_the_position_before_it(log: ScriptedLog, redis_server: RedisServer) -> None:
    """The chain of prev is unbroken from the first epoch on, across calls and within them."""
    log.call([tweet(), tweet()])
    log.call([tweet()])
    entries = EventLog(redis_server.url).read(0)
    assert [entry.prev for entry in entries] == [0, *(entry.position for entry in entries[:-1])]


def test_a_deletion_leaves_its_mark(log: ScriptedLog) -> None:
    """HAZARDS 9: in the call that appends it, and for good, wherever in a batch it is."""
    first, _ = log.call([tweet(), tweet()]).results
    deletion = AppendItem(TweetDeleted(tweet_id=int(first), user_id=1), target=int(first))
    _, at, _ = (int(result) for result in log.call([tweet(), deletion, tweet()]).results)
    assert log.redis.zrange(keys.DELETED, 0, -1, withscores=True) == [(b"%d:1" % int(first), float(at))]
    assert log.redis.ttl(keys.DELETED) == -1


def test_a_deletion_of_what_the_log_has_not_reached_is_refused(log: ScriptedLog) -> None:
    """And leaves no mark."""
    (head,) = log.call([tweet()]).results
    above = int(head) + 1
    assert log.call([AppendItem(TweetDeleted(tweet_id=above, user_id=1), target=above)]).results == ["not_found"]
    assert not log.redis.exists(keys.DELETED)


def test_ids_ascend_when_the_clock_steps_back(log: ScriptedLog) -> None:
    """HAZARDS 14: ten seconds back, and ids go on from where they were."""
    log.call([tweet()])
    log.set_time(log.now_ms - 10_000)
    log.call([tweet()], clock_ms=log.now_ms)
    assert ascending(log.positions())


def test_five_thousand_appends_in_one_millisecond_have_ids_of_their_own(log: ScriptedLog) -> None:
    """A millisecond has 4,096 numbers; the rest borrows from the next one."""
    results = [result for _ in range(10) for result in log.call([tweet()] * 500).results]
    assert len(set(results)) == 5_000
    assert ascending(log.positions())
    assert log.last_ms() == log.now_ms + 1


def test_a_clock_a_year_ahead_is_refused_until_the_writers_agree(log: ScriptedLog) -> None:
    """HAZARDS 14: one poisoned clock must not push ids into the future; after a quiet year it is simply later."""
    log.call([tweet()])
    writers_clock = log.now_ms
    log.set_time(log.now_ms + YEAR_MS)
    with pytest.raises(WritesRefused) as refused:
        log.call([tweet()], clock_ms=writers_clock)
    assert refused.value.code == "clock_ahead"
    log.call([tweet()], clock_ms=log.now_ms)
    assert ascending(log.positions())
    assert log.last_ms() == log.now_ms


def test_ids_ascend_over_a_restart_of_redis(fresh_redis: RedisServer) -> None:
    """What was acknowledged is on disk, and so is the head that the next id must be above."""
    log = ScriptedLog(fresh_redis.url)
    log.start()
    before = log.call([tweet()]).head
    fresh_redis.kill()
    fresh_redis.start()
    after = ScriptedLog(fresh_redis.url, now_ms=log.now_ms).call([tweet()]).head
    assert after > before
    assert ascending(log.positions())


def test_large_positions_keep_every_digit(log: ScriptedLog, redis_server: RedisServer) -> None:
    """HAZARDS 13: near 2^53 Lua's own number formatting would lose digits."""
    late_ms = unix_ms_of(POSITION_MAX) - 1
    log.set_time(late_ms)
    first, second = log.call([tweet(), tweet()]).results
    entries = EventLog(redis_server.url).read(0)[-2:]
    assert [entry.position for entry in entries] == [first, second]
    assert entries[1].prev == first
    assert unix_ms_of(int(first)) == late_ms


def test_a_call_sent_twice_is_carried_out_once(log: ScriptedLog) -> None:
    """HAZARDS 2: the second sending gets the first answer, even after the deadline, whatever the clock did since."""
    deadline_ms = log.now_ms + 800
    first = log.call([tweet()], session="s", number=1, deadline_ms=deadline_ms)
    for step_ms in (5_000, 30_000, -60_000, 55_000):
        log.set_time(log.now_ms + step_ms)
        log.call([tweet()], session="of another", number=1, clock_ms=log.now_ms)
        assert log.call([tweet()], session="s", number=1, deadline_ms=deadline_ms).results == first.results
    assert len(log.positions()) == 3  # with the epoch


def test_a_late_copy_of_an_earlier_call_is_refused(log: ScriptedLog) -> None:
    """The simulation's seed 4952: its deadline had not passed, as the clock had been ahead and stepped back."""
    for number in (1, 2, 5):  # 3 and 4 came to nothing
        log.call([tweet()], session="s", number=number)
    for number in (1, 3, 4):
        with pytest.raises(WritesRefused) as refused:
            log.call([tweet()], session="s", number=number)
        assert refused.value.code == "call_superseded"
    assert len(log.positions()) == 4


def test_a_session_that_is_lost_writes_nothing_and_proves_nothing(log: ScriptedLog) -> None:
    """Redis came back older, or has dropped it: an earlier copy may have run. A call that is sent once has none."""
    log.call([tweet()], session="s", number=1)
    log.redis.delete(keys.CALLS)
    with pytest.raises(WritesRefused) as refused:
        log.call([tweet()], session="s", number=2)
    assert refused.value.code == "session_unknown"
    with pytest.raises(WritesRefused) as refused:
        log.call([tweet()], session="s", number=2, deadline_ms=log.now_ms - 1)
    assert refused.value.code == "deadline_forgotten"
    assert not isinstance(refused.value, DeadlinePassed)
    log.call([tweet()])
    log.call([tweet()], session="another", number=1)
    assert len(log.positions()) == 4


def test_an_epoch_leaves_of_each_session_that_its_calls_are_not_known_any_more(log: ScriptedLog) -> None:
    """Their entries may be in the history or not, and no copy of them may run beside it."""
    base = [log.call([tweet()], session="s", number=number).head for number in (1, 2)][-1]
    log.redis.hset(keys.META, "halt", "a test")
    epoch_position = EventLog(log.url).start_epoch(2, fence=1, base_position=base)
    log.set_time(unix_ms_of(epoch_position))
    for number, code in ((1, "call_superseded"), (2, "deadline_forgotten")):
        with pytest.raises(WritesRefused) as refused:
            log.call([tweet()], session="s", number=number)
        assert refused.value.code == code
    log.call([tweet()], session="s", number=3)
    assert len(log.positions()) == 2


def test_sessions_do_not_pile_up(log: ScriptedLog) -> None:
    """Those that were used longest ago are dropped; they belonged to processes that are no more."""
    for number in range(1, 1_301):
        log.call([tweet()], session=f"{number}", number=1)
        if number % 100 == 0:
            log.call([tweet()], session="in use", number=number // 100)
    assert 512 <= log.redis.hlen(keys.CALLS) <= 1_024
    assert log.call([tweet()], session="in use", number=14).results
    assert not log.redis.hexists(keys.CALLS, "400")
    assert log.redis.hexists(keys.CALLS, "900")


def test_a_call_after_its_deadline_is_proof_that_nothing_happened(log: ScriptedLog) -> None:
    """A client that was told 503 must not find its tweet a minute later."""
    with pytest.raises(DeadlinePassed):
        log.call([tweet()], deadline_ms=log.now_ms - 1)
    assert len(log.positions()) == 1


def test_a_call_that_was_refused_stays_refused_when_the_clock_steps_back(log: ScriptedLog) -> None:
    """The simulation's seed 1737: a copy was late, another had been refused, and to its client that was the truth."""
    deadline_ms = log.now_ms + 800
    log.set_time(log.now_ms + 1_000)
    with pytest.raises(DeadlinePassed):
        log.call([tweet()], session="s", number=1, deadline_ms=deadline_ms)
    log.set_time(log.now_ms - 3_000)
    with pytest.raises(DeadlinePassed):
        log.call([tweet()], session="s", number=1, deadline_ms=deadline_ms)
    assert len(log.positions()) == 1
    log.call([tweet()], session="s", number=2, deadline_ms=deadline_ms)
    assert len(log.positions()) == 2


def test_a_deadline_far_ahead_is_refused(log: ScriptedLog) -> None:
    """Redis's clock has stepped back since the writer asked, and a copy could run long after its client has gone."""
    with pytest.raises(WritesRefused) as refused:
        log.call([tweet()], deadline_ms=log.now_ms + 5_001)
    assert refused.value.code == "deadline_too_far"


def test_no_write_before_an_owner_has_started_the_log(redis_server: RedisServer) -> None:
    """An emptied Redis looks like a new one; only the owner knows which it is."""
    with pytest.raises(WritesRefused) as refused:
        ScriptedLog(redis_server.url).call([tweet()])
    assert refused.value.code == "not_started"


def test_a_writer_that_has_seen_more_than_the_log_holds_halts_it(log: ScriptedLog) -> None:
    """HAZARDS 1: Redis came back with less; the first writer to notice stops all of them."""
    seen = log.call([tweet()]).head + 1
    with pytest.raises(WritesRefused) as refused:
        log.call([tweet()], seen_position=seen)
    assert refused.value.code == "log_forked"
    with pytest.raises(WritesRefused) as refused:
        log.call([tweet()])
    assert refused.value.code == "halted"
    assert log.redis.hget(keys.META, "reported") == str(seen).encode()


def test_a_writer_notices_a_log_that_lost_its_entry_and_went_on(log: ScriptedLog) -> None:
    """The log ends after what the writer has seen, but no longer holds it; what was trimmed is not missed."""
    first, seen = (int(log.call([tweet()]).results[0]) for _ in range(2))
    log.call([tweet()], seen_position=seen)
    EventLog(log.url).trim(first, fence=1)
    log.call([tweet()], seen_position=first)
    log.redis.xdel(keys.STREAM, entry_id(seen))
    log.call([tweet()], seen_position=first)
    EventLog(log.url).trim(seen, fence=1)
    assert EventLog(log.url).status().abandoned == [first]
    log.call([tweet()], seen_position=seen)
    lost, *_ = log.call([tweet(), tweet()]).results
    log.redis.xdel(keys.STREAM, entry_id(int(lost)))
    with pytest.raises(WritesRefused) as refused:
        log.call([tweet()], seen_position=int(lost))
    assert refused.value.code == "log_forked"
    assert log.redis.hget(keys.META, "reported") == str(lost).encode()


def test_a_log_that_lost_entries_proves_nothing_about_an_earlier_sending(log: ScriptedLog) -> None:
    """The first answer may have been lost with them, and the owner may have applied what it was about."""
    seen = log.call([tweet()]).head + 1
    for _ in range(2):
        with pytest.raises(WritesRefused) as refused:
            log.call([tweet()], seen_position=seen, deadline_ms=log.now_ms - 1)
        assert refused.value.code == "deadline_forgotten"
    with pytest.raises(WritesRefused):
        log.call([tweet()], seen_position=seen)
    with pytest.raises(WritesRefused) as refused:
        log.call([tweet()], deadline_ms=log.now_ms - 1)
    assert refused.value.code == "deadline_forgotten"


def test_a_writer_that_comes_late_reports_to_a_halted_log_too(log: ScriptedLog) -> None:
    """The next epoch lies above what anybody has seen, whoever was the first to notice."""
    head = log.call([tweet()]).head
    for seen in (head + 5, head + 9, head + 7):
        with pytest.raises(WritesRefused):
            log.call([tweet()], seen_position=seen)
    assert log.redis.hget(keys.META, "reported") == str(head + 9).encode()


def test_a_name_is_taken_without_regard_to_case_even_within_a_batch(log: ScriptedLog) -> None:
    """The log decides names, because two writers may be asked at the same moment."""
    ann, again, other = log.call([user("Ann", "e1"), user("aNN", "e2"), user("bob", "e1")]).results
    assert isinstance(ann, int)
    assert (again, other) == ("username_taken", "email_taken")
    assert log.call([user("ANN", "e3"), user("bob", "e2")]).results[0] == "username_taken"


def test_a_fixture_keeps_its_own_id_and_is_refused_the_second_time(log: ScriptedLog) -> None:
    """Explicit ids are for fixtures; nobody's credentials are overwritten by another's."""
    position, within_the_call = log.call([user("ann", "e1", fixture_id=1), user("eve", "e3", fixture_id=1)]).results
    assert isinstance(position, int)
    assert within_the_call == "id_taken"
    assert log.redis.get(f"{keys.NAME_PREFIX}ann") == b"1"
    assert log.call([user("bob", "e2", fixture_id=1)]).results == ["id_taken"]


def test_a_target_above_the_head_cannot_exist(log: ScriptedLog) -> None:
    """Nobody has to be asked whether a tweet of the future exists."""
    like = AppendItem(TweetLiked(tweet_id=POSITION_MAX), target=POSITION_MAX)
    assert log.call([like]).results == ["not_found"]


def test_secrets_stay_beside_the_log(log: ScriptedLog, redis_server: RedisServer) -> None:
    """HAZARDS 24: no entry holds the e-mail or the hash, and the owner can fetch both."""
    (user_id,) = log.call([user("ann", "e1")]).results
    reader = EventLog(redis_server.url)
    assert all(b"example.org" not in entry.payload and b"hash" not in entry.payload for entry in reader.read(0))
    assert reader.credentials([int(user_id)])[int(user_id)].email == "e1@example.org"


def test_a_rejected_account_gives_its_name_back_once(log: ScriptedLog, redis_server: RedisServer) -> None:
    """HAZARDS 7: and a name that somebody else took meanwhile stays theirs."""
    (user_id,) = log.call([user("Ann", "e1")]).results
    owner = EventLog(redis_server.url)
    owner.release_names([int(user_id)])
    (second,) = log.call([user("ann", "e1")]).results
    owner.release_names([int(user_id)])
    assert log.redis.get(f"{keys.NAME_PREFIX}ann") == str(second).encode()


def test_nothing_that_a_call_writes_may_be_evicted(log: ScriptedLog) -> None:
    """HAZARDS 3: what has a time to live goes when memory is short. An entry is all that there is of a tweet."""
    keys_before = set(log.redis.keys())
    log.call([tweet()])
    assert set(log.redis.keys()) == keys_before
    log.call([user("ann", "e1")])
    assert {log.redis.ttl(key) for key in log.redis.keys()} == {-1}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda redis: redis.set(f"{keys.NAME_PREFIX}ann", "1") and redis.lpush("name:bob", "x"),
        lambda redis: redis.lpush(f"{keys.EMAIL_PREFIX}e1", "x"),
        lambda redis: redis.rename(keys.META, "elsewhere") and redis.set(keys.META, "x"),
    ],
    ids=["name", "e-mail", "meta"],
)
def test_a_key_of_the_wrong_type_stops_the_batch_before_anything_is_written(log: ScriptedLog, spoil: object) -> None:
    """HAZARDS 11: a script is not rolled back, so everything that can fail is read before the first write."""
    spoil(log.redis)  # type: ignore[operator]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        log.call([tweet(), user("bob", "e1"), tweet()])
    assert log.redis.xlen(keys.STREAM) == 1


def test_a_full_redis_refuses_the_whole_batch_and_evicts_nothing_that_matters(fresh_redis: RedisServer) -> None:
    """HAZARDS 3, 12: XADD comes first, so memory is checked before anything is written."""
    log = ScriptedLog(fresh_redis.url)
    log.start()
    _limit_memory(log.redis)
    with pytest.raises(OutOfMemoryError):
        for number in range(1_000):
            log.call([tweet("x" * 280)] * 20 + [user(f"user{number}", f"e{number}")])
    entries = EventLog(fresh_redis.url).read(0, entries_max=100_000)
    accounts = {events.decode(e.name, e.payload).username for e in entries if e.name == UserCreated.name}  # type: ignore[attr-defined]
    assert set(log.redis.keys(f"{keys.NAME_PREFIX}*")) == {f"{keys.NAME_PREFIX}{name}".encode() for name in accounts}
    assert len(accounts) * 21 == len(entries) - 1  # whole batches only, after the epoch
    assert [entry.prev for entry in entries] == [0, *(entry.position for entry in entries[:-1])]
    assert entries[-1].position == EventLog(fresh_redis.url).head()


def _limit_memory(redis: Redis) -> None:
    used = int(redis.info("memory")["used_memory"])
    redis.config_set("maxmemory", used + 2_000_000)
    redis.config_set("maxmemory-policy", "volatile-lru")
