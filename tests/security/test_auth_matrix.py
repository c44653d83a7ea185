"""Every route of both services with every kind of token: the exact refusal, and nothing appended.

The routes are those of the OpenAPI documents: one that is added has no row here, and that fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from services.common.auth.signing_keys import SigningKey, encode_keys, parse_keys
from services.common.events import UserSuspended
from services.common.log.append import AppendItem
from tests.support.guarded import Account, Guarded, bearer, refusal
from tests.support.process import ServiceProcess
from tests.support.tokens import BAD, bad_token, good_token
from tests.support.wait import eventually

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """What a route is sent, and whose it is; ``names`` who acts in a body that may say so."""

    needs: str
    body: Json | None = None
    names: bool = False


OPEN: Final = "nobody's"
"""No token is looked at: whatever is sent as one, the answer is the same."""
GUARDED: Final = "a token where AUTH_REQUIRED is true"
OWN: Final = "a token, always"

READS: Final = {
    "GET /": Row(OPEN),
    "GET /healthz/live": Row(OPEN),
    "GET /healthz/ready": Row(OPEN),
    "GET /healthz/startup": Row(OPEN),
    "GET /internal/existence": Row(OPEN),
    "GET /tweets/{tweet_id}": Row(OPEN),
    "GET /tweets/{tweet_id}/replies": Row(OPEN),
    "GET /tweets/{tweet_id}/likes": Row(OPEN),
    "GET /tweets/{tweet_id}/retweets": Row(OPEN),
    "GET /users/me": Row(OWN),
    "GET /users/by-username/{username}": Row(OPEN),
    "GET /users/{user_id}": Row(OPEN),
    "GET /users/{user_id}/tweets": Row(OPEN),
    "GET /users/{user_id}/followers": Row(OPEN),
    "GET /users/{user_id}/following": Row(OPEN),
    "GET /users/{user_id}/home": Row(OPEN),
}
WRITES: Final = {
    "GET /": Row(OPEN),
    "GET /healthz/live": Row(OPEN),
    "GET /healthz/ready": Row(OPEN),
    "GET /healthz/startup": Row(OPEN),
    # Those that give tokens, with what they refuse: they may not append either.
    "POST /users": Row(OPEN, {"username": "no name", "email": "a@example.org"}),
    "POST /auth/token": Row(OPEN, {"username": "nobody", "password": "no password"}),
    "POST /auth/refresh": Row(OPEN, {"refresh_token": "none"}),
    "POST /auth/revoke": Row(OWN),
    "PATCH /users/me": Row(OWN, {"name": "Eve", "password": "another password"}),
    "DELETE /users/me": Row(OWN),
    "POST /tweets": Row(GUARDED, {"content": "hello"}, names=True),
    "DELETE /tweets/{tweet_id}": Row(GUARDED, names=True),
    "POST /tweets/{tweet_id}/like": Row(GUARDED, names=True),
    "DELETE /tweets/{tweet_id}/like": Row(GUARDED, names=True),
    "POST /tweets/{tweet_id}/retweet": Row(GUARDED, names=True),
    "DELETE /tweets/{tweet_id}/retweet": Row(GUARDED, names=True),
    "POST /users/{user_id}/follow": Row(GUARDED, names=True),
    "DELETE /users/{user_id}/follow": Row(GUARDED, names=True),
}
ROWS: Final = {**{f"write: {route}": row for route, row in WRITES.items()}}
ROWS.update({f"read: {route}": row for route, row in READS.items()})
TOKENS_LOOKED_AT: Final = [route for route, row in ROWS.items() if row.needs is not OPEN]
NAMED: Final = [route for route, row in ROWS.items() if row.names]


class Both(Guarded):
    """A system with two write services over one log: the second does not require tokens."""

    @property
    def lenient(self) -> ServiceProcess:
        """The one that requires none."""
        return self.writers[1]

    def ask(
        self,
        route: str,
        headers: httpx._types.HeaderTypes | None = None,
        *,
        body: Json | None = None,
        tweet: int | None = None,
        lenient: bool = False,
    ) -> httpx.Response:
        """Send a row's request, about the tweet and the account of the second of the cast."""
        service, method, path = route.split()
        clients = {"read:": self.read, "write:": self.lenient.http if lenient else self.write}
        _, bob, bobs_tweet = self.cast
        path = path.format(tweet_id=tweet or bobs_tweet, user_id=bob.id, username=bob.username)
        return clients[service].request(method, path, headers=headers, json=body or ROWS[route].body)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """A system of this module."""
    system = Both(tmp_path_factory.mktemp("both"), writers=2)
    system.lenient.environment["AUTH_REQUIRED"] = "false"
    with system:
        ada, bob, tweet = system.cast
        assert ada.id != bob.id
        system.wait_until_applied(tweet)
        yield system


def routes_of(service: ServiceProcess) -> set[str]:
    """The operations in a service's OpenAPI document."""
    paths = service.http.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


def test_every_route_has_a_row(both: Both) -> None:
    """Whoever adds a route says here who may ask it, and every test below then asks it."""
    assert set(READS) == routes_of(both.readers[0])
    assert set(WRITES) == routes_of(both.writers[0])


@pytest.mark.parametrize("lenient", [False, True], ids=["required", "not required"])
@pytest.mark.parametrize("route", TOKENS_LOOKED_AT)
def test_a_bad_token_is_refused_and_nothing_is_written(both: Both, route: str, lenient: bool) -> None:
    """Expired, early, forged, unsigned, of another algorithm, key, system or kind; also where none is needed."""
    ada, _, _ = both.cast
    head, kept = both.log.head(), both.log.credentials([ada.id])
    answers = {bad: both.ask(route, bearer(bad_token(bad, both.key_file, ada.id)), lenient=lenient) for bad in BAD}
    assert {bad: refusal(answer) for bad, answer in answers.items()} == {bad: (401, code) for bad, code in BAD.items()}
    assert {answer.headers["WWW-Authenticate"] for answer in answers.values()} == {"Bearer"}
    assert (both.log.head(), both.log.credentials([ada.id])) == (head, kept)


@pytest.mark.parametrize("route", [route for route, row in ROWS.items() if row.needs is OPEN])
def test_where_no_token_is_looked_at_a_bad_one_changes_nothing(both: Both, route: str) -> None:
    """Nor does a good one: the answer is the same, byte for byte."""
    ada, _, _ = both.cast
    head, plain = both.log.head(), both.ask(route)
    headers = [bearer(bad_token(bad, both.key_file, ada.id)) for bad in BAD]
    for sent in (*headers, ada.headers, {"Authorization": "Basic YTpi"}):
        answer = both.ask(route, sent)
        assert (answer.status_code, answer.content) == (plain.status_code, plain.content)
    assert both.log.head() == head


NO_TOKEN: Final[dict[str, tuple[httpx._types.HeaderTypes, str]]] = {
    "nothing": ({}, "token_missing"),
    "another scheme": ({"Authorization": "Basic YTpi"}, "token_malformed"),
    "no scheme": ({"Authorization": "a.b.c"}, "token_malformed"),
    "an empty token": ({"Authorization": "Bearer"}, "token_malformed"),
    "an empty header": ({"Authorization": ""}, "token_malformed"),
    "no ASCII": ({b"Authorization": "Bearer \xfc.b.c".encode("latin-1")}, "token_malformed"),
    "spaces inside": ({"Authorization": "Bearer a.b.c d.e.f"}, "token_malformed"),
    "a token without end": ({"Authorization": "Bearer " + "a." * 16_000}, "token_malformed"),
}


@pytest.mark.parametrize("route", TOKENS_LOOKED_AT)
def test_without_a_token_nothing_is_done_where_one_is_required(both: Both, route: str) -> None:
    """Anonymous likes too; and another scheme is no token. Where none is required, nonsense is refused all the same."""
    head = both.log.head()
    answers = {name: both.ask(route, headers) for name, (headers, _) in NO_TOKEN.items()}
    assert {name: refusal(answer) for name, answer in answers.items()} == {
        name: (401, code) for name, (_, code) in NO_TOKEN.items()
    }
    assert {answer.headers["WWW-Authenticate"] for answer in answers.values()} == {"Bearer"}
    nonsense = both.ask(route, {"Authorization": "Basic YTpi"}, lenient=True)
    assert refusal(nonsense) == (401, "token_malformed")
    assert both.log.head() == head


@pytest.mark.parametrize("route", TOKENS_LOOKED_AT)
def test_two_tokens_are_none(both: Both, route: str) -> None:
    """Which of them counts must not depend on who looks: the limit's account is that of who acts."""
    ada, bob, _ = both.cast
    head = both.log.head()
    for others in (bob.headers, bearer("a.b.c")):
        for pair in ((ada.headers, others), (others, ada.headers)):
            headers = [("Authorization", sent["Authorization"]) for sent in pair]
            assert refusal(both.ask(route, headers)) == (400, "repeated_header")
    assert both.log.head() == head


def _revoke(both: Both, account: Account) -> None:
    assert both.ask("write: POST /auth/revoke", account.headers).status_code == 200


def _delete(both: Both, account: Account) -> None:
    assert both.ask("write: DELETE /users/me", account.headers).status_code == 200


def _suspend(both: Both, account: Account) -> None:
    both.log.append([AppendItem(UserSuspended(user_id=account.id))])


ENDS: Final[dict[str, tuple[Callable[[Both, Account], None], tuple[int, str]]]] = {
    "revoked": (_revoke, (401, "token_revoked")),
    "deleted": (_delete, (401, "token_revoked")),
    "suspended": (_suspend, (403, "account_suspended")),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("route", TOKENS_LOOKED_AT)
def test_a_token_of_an_account_that_may_not_act_is_refused_at_once(both: Both, route: str, end: str) -> None:
    """Revoked, deleted or suspended: checked with the append, so no moment is left between. Nor can it be renewed."""
    eve, (_, _, bobs_tweet) = both.sign_up(None), both.cast
    tweet = both.tweet(eve) if route == "write: DELETE /tweets/{tweet_id}" else bobs_tweet
    carry_out, expected = ENDS[end]
    carry_out(both, eve)
    head = both.log.head()
    assert refusal(both.ask(route, eve.headers, tweet=tweet)) == expected
    assert refusal(both.ask(route, eve.headers, tweet=tweet, lenient=True)) == expected
    refreshed = both.write.post("/auth/refresh", json={"refresh_token": eve.tokens["refresh_token"]})
    assert refusal(refreshed) == expected
    assert both.log.head() == head


@pytest.mark.parametrize("lenient", [False, True], ids=["required", "not required"])
@pytest.mark.parametrize("route", NAMED)
def test_one_acts_only_as_oneself(both: Both, route: str, lenient: bool) -> None:
    """With a token, naming somebody else is refused; naming oneself, or nobody, is oneself."""
    ada, bob, _ = both.cast
    tweet = both.tweet(ada)
    head = both.log.head()
    body = ROWS[route].body or {}
    forbidden = both.ask(route, ada.headers, body={**body, "user_id": bob.id}, tweet=tweet, lenient=lenient)
    assert refusal(forbidden) == (403, "not_yourself")
    assert both.log.head() == head
    for named in ({**body, "user_id": ada.id}, None):
        answer = both.ask(route, ada.headers, body=named, tweet=tweet, lenient=lenient)
        assert answer.status_code in {200, 201}, answer.text
    written = both.log.read(head)
    assert len(written) == 2
    assert all(f":{ada.id}" in entry.payload.decode() for entry in written)


def test_what_is_somebody_elses_stays_so(both: Both) -> None:
    """A good token is good for nobody else's tweet."""
    ada, _, bobs_tweet = both.cast
    head = both.log.head()
    for lenient in (False, True):
        answer = both.ask("write: DELETE /tweets/{tweet_id}", ada.headers, lenient=lenient)
        assert refusal(answer) == (403, "not_the_author")
    assert both.read.get(f"/tweets/{bobs_tweet}").status_code == 200
    assert both.log.head() == head


def test_a_key_that_comes_in_is_good_everywhere_before_it_signs(both: Both) -> None:
    """And one that goes out is good nowhere, on every route and every process, without a restart."""
    ada, _, _ = both.cast
    old = parse_keys(both.key_file.read_bytes()).keys
    coming = SigningKey("coming-in", b"c" * 32, 2**40)
    try:
        both.key_file.write_bytes(encode_keys([*old, coming]))
        token = good_token(coming, ada.id)
        for lenient in (False, True):
            _eventually_status(both, "write: POST /tweets", token, 201, lenient=lenient)
        _eventually_status(both, "read: GET /users/me", token, 200)
    finally:
        both.key_file.write_bytes(encode_keys(old))
    for lenient in (False, True):
        _eventually_status(both, "write: POST /tweets", token, 401, lenient=lenient)
    _eventually_status(both, "read: GET /users/me", token, 401)
    head = both.log.head()
    for route in TOKENS_LOOKED_AT:
        assert refusal(both.ask(route, bearer(token))) == (401, "token_signature")
    assert both.log.head() == head


def _eventually_status(both: Both, route: str, token: str, status: int, *, lenient: bool = False) -> None:
    eventually(lambda: both.ask(route, bearer(token), lenient=lenient).status_code == status, 30)
