"""append.lua on accounts: what their events claim, free and revoke, in one call and over the months."""

from __future__ import annotations

import pytest

from services.common import keys
from services.common.events import (
    AccountDeleted,
    TokensRevoked,
    TweetCreated,
    UserCreated,
    UserReinstated,
    UserSuspended,
    UserUpdated,
)
from services.common.log.append import (
    NAME_HELD_SECONDS,
    AppendItem,
    CredentialChange,
    CredentialClaim,
    Result,
    TokenHolder,
)
from services.common.log.client import EventLog, StoredCredential
from tests.support.redis_server import RedisServer
from tests.support.scripted_log import ScriptedLog

LATE = 2**52


@pytest.fixture
def log(redis_server: RedisServer) -> ScriptedLog:
    """A started log with a clock of its own."""
    return ScriptedLog.started(redis_server.url)


def user(username: str, email_hmac: str) -> AppendItem:
    """A new account."""
    return AppendItem(UserCreated(username=username), credential=CredentialClaim("a@b.c", email_hmac, "hash"))


def tweet(user_id: int, token_position: int = LATE) -> AppendItem:
    """A tweet by the holder of a token."""
    return AppendItem(TweetCreated(user_id=user_id, content="x"), holder=TokenHolder(user_id, token_position))


def unproven(user_id: int) -> AppendItem:
    """A tweet by who is said to be this account."""
    return AppendItem(TweetCreated(user_id=user_id, content="x"), actor_id=user_id)


def update(user_id: int, email_hmac: str | None = None, password_hash: str | None = None) -> AppendItem:
    """A change of what an account keeps in confidence."""
    change = CredentialChange(email_hmac and f"{email_hmac}@example.org", email_hmac, password_hash)
    return AppendItem(UserUpdated(user_id=user_id), change=change, holder=TokenHolder(user_id, LATE))


def delete(user_id: int) -> AppendItem:
    """The end of an account."""
    return AppendItem(AccountDeleted(user_id=user_id), holder=TokenHolder(user_id, LATE))


def created(log: ScriptedLog, username: str = "ada", email_hmac: str = "h1") -> int:
    """The id of a new account."""
    return int(log.call([user(username, email_hmac)]).results[0])


def stored(log: ScriptedLog, user_id: int) -> StoredCredential:
    """What Redis keeps of an account."""
    return EventLog(log.url).credentials([user_id])[user_id]


def call(log: ScriptedLog, *items: AppendItem) -> list[Result]:
    """The results of one call."""
    return log.call(items).results


def test_a_revocation_is_kept_at_its_position_and_ends_what_was_issued_before(log: ScriptedLog) -> None:
    """A token issued at that position is good, one from below is not."""
    ada = created(log)
    (position,) = call(log, AppendItem(TokensRevoked(user_id=ada), holder=TokenHolder(ada, ada)))
    assert stored(log, ada).revoked_position == position
    assert call(log, tweet(ada, int(position) - 1)) == ["token_revoked"]
    assert isinstance(call(log, tweet(ada, int(position)))[0], int)


def test_items_of_one_call_see_the_revocations_before_them(log: ScriptedLog) -> None:
    """Requests that arrive together share a call; their order holds all the same."""
    ada = created(log)
    revoke = AppendItem(TokensRevoked(user_id=ada), holder=TokenHolder(ada, ada))
    before, revoked, after = call(log, tweet(ada, ada), revoke, tweet(ada, ada))
    assert (isinstance(before, int), isinstance(revoked, int), after) == (True, True, "token_revoked")
    gone, tweeted, updated, again = call(log, delete(ada), tweet(ada), update(ada, "h9"), delete(ada))
    assert isinstance(gone, int)
    assert [tweeted, updated, again] == ["token_revoked"] * 3


def test_a_suspended_account_acts_neither_with_a_token_nor_without(log: ScriptedLog) -> None:
    """Until it is reinstated; and the tokens from before the suspension stay useless after that."""
    ada, bob = created(log), created(log, "bob", "h2")
    (position,) = call(log, AppendItem(UserSuspended(user_id=ada)))
    assert (stored(log, ada).suspended_position, stored(log, ada).revoked_position) == (position, position)
    barred = [tweet(ada), tweet(ada, ada), unproven(ada), update(ada, "h3"), delete(ada)]
    assert call(log, *barred) == ["account_suspended"] * len(barred)
    assert isinstance(call(log, tweet(bob))[0], int)
    call(log, AppendItem(UserReinstated(user_id=ada)))
    assert stored(log, ada).suspended_position == 0
    with_old_token, with_new_token, without = call(log, tweet(ada, int(position) - 1), tweet(ada), unproven(ada))
    assert (with_old_token, type(with_new_token), type(without)) == ("token_revoked", int, int)


def test_items_of_one_call_see_the_suspensions_before_them(log: ScriptedLog) -> None:
    """In their order; a suspended account that is deleted is gone."""
    ada = created(log)
    suspend, reinstate = AppendItem(UserSuspended(user_id=ada)), AppendItem(UserReinstated(user_id=ada))
    results = call(log, tweet(ada), suspend, tweet(ada), reinstate, tweet(ada))
    assert [type(result) for result in results] == [int, int, str, int, int]
    end = AppendItem(AccountDeleted(user_id=ada))
    assert call(log, suspend, end, tweet(ada), suspend)[2:] == ["token_revoked", "not_found"]


def test_nothing_is_appended_for_an_account_that_is_gone(log: ScriptedLog) -> None:
    """Without a token either, in the call of its deletion and after it: nobody would ever see it."""
    ada = created(log)
    before, _, after = call(log, unproven(ada), delete(ada), unproven(ada))
    assert (type(before), after) == (int, "actor_gone")
    assert call(log, unproven(ada)) == ["actor_gone"]


def test_who_is_created_in_a_call_acts_in_it(log: ScriptedLog) -> None:
    """An account with an id that was known before."""
    item = AppendItem(UserCreated(username="ada", id=7), credential=CredentialClaim("a@b.c", "h1", "hash"))
    assert [type(result) for result in call(log, item, unproven(7), tweet(7))] == [int, int, int]


def test_a_new_password_revokes_and_a_new_email_does_not(log: ScriptedLog) -> None:
    """Who changes a password wants the others out."""
    ada = created(log)
    call(log, update(ada, "h2"))
    assert (stored(log, ada).revoked_position, stored(log, ada).email_hmac) == (0, "h2")
    (position,) = call(log, update(ada, password_hash="other"))
    assert (stored(log, ada).revoked_position, stored(log, ada).password_hash) == (position, "other")


def test_an_email_moves_and_leaves_no_claim_behind(log: ScriptedLog) -> None:
    """Twice in one call too; taken by somebody else it stays with them."""
    ada, bob = created(log), created(log, "bob", "h2")
    assert call(log, update(ada, "h2")) == ["email_taken"]
    assert [type(result) for result in call(log, update(ada, "h3"), update(ada, "h4"), update(bob, "h4"))] == [
        int,
        int,
        str,
    ]
    held = {key.decode(): int(log.redis.get(key) or 0) for key in log.redis.scan_iter(f"{keys.EMAIL_PREFIX}*")}
    assert held == {"email:h4": ada, "email:h2": bob}
    assert isinstance(call(log, update(ada, "h4"))[0], int)  # one's own


def test_the_name_of_a_deleted_account_is_free_after_thirty_days(log: ScriptedLog) -> None:
    """By the log's clock, and by no key that expires; the e-mail at once."""
    ada = created(log)
    call(log, delete(ada))
    assert log.redis.ttl("name:ada") == -1
    assert call(log, user("Ada", "h1")) == ["username_taken"]
    log.set_time(log.now_ms + NAME_HELD_SECONDS * 1000 - 1)
    assert call(log, user("Ada", "h1")) == ["username_taken"]
    log.set_time(log.now_ms + 1)
    (again,) = call(log, user("Ada", "h1"))
    assert log.redis.get("name:ada") == str(again).encode()


def test_nothing_is_kept_of_a_deleted_account(log: ScriptedLog) -> None:
    """And who is gone cannot be changed, by an operator either."""
    ada = created(log)
    call(log, delete(ada))
    assert not log.redis.exists(keys.credential(ada), "email:h1")
    assert call(log, AppendItem(AccountDeleted(user_id=ada))) == ["not_found"]
