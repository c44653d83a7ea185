"""What a sign-in costs: the same work whoever asks, and never more at once than a pod can bear."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, cast

import httpx
import pytest
from argon2 import Parameters, PasswordHasher, extract_parameters
from pydantic import SecretStr

from services.common.auth import Authentication
from services.common.errors import ClientError, Overloaded
from services.common.log.client import StoredCredential
from services.common.log.credentials import CredentialLookups
from services.write.commands import LogIn
from services.write.credentials import THREADS, WAITING_MAX, Credentials
from services.write.logins import Logins
from tests.security.conftest import Fronted
from tests.support.guarded import PASSWORD
from tests.support.wait import eventually

KEY: Final = SecretStr("a key for tests, not secret")
FLOODERS: Final = 40


@dataclass
class Counting:
    """A hasher that notes what it is asked to do, and waits until it may."""

    hasher: PasswordHasher
    may_go_on: threading.Event
    costs: list[Parameters] = field(default_factory=list)
    running: int = 0
    running_max: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def verify(self, password_hash: str, password: str) -> bool:
        """Verify, as the hasher does."""
        with self.lock:
            self.running += 1
            self.running_max = max(self.running_max, self.running)
            self.costs.append(extract_parameters(password_hash))
        try:
            assert self.may_go_on.wait(30)
            return self.hasher.verify(password_hash, password)
        finally:
            with self.lock:
                self.running -= 1


@dataclass
class Lookups:
    """What Redis holds; counts how often it is asked."""

    names: dict[str, int]
    credentials: dict[int, StoredCredential]
    asked: list[str] = field(default_factory=list)

    async def user_named(self, username: str) -> int | None:
        """As Redis."""
        self.asked.append("name")
        return self.names.get(username)

    async def user_with_email(self, email_hmac: str) -> int | None:
        """As Redis."""
        self.asked.append("name")
        return next((user_id for user_id, held in self.credentials.items() if held.email_hmac == email_hmac), None)

    async def of_user(self, user_id: int) -> StoredCredential | None:
        """As Redis."""
        self.asked.append("credential")
        return self.credentials.get(user_id)


@dataclass
class SignIn:
    """The sign-in of a writer, with people in it."""

    logins: Logins
    credentials: Credentials
    hasher: Counting
    lookups: Lookups


@pytest.fixture
def sign_in() -> Any:
    """Ada has a password, Bob has none, Eve is suspended."""
    credentials = Credentials(KEY)
    hasher = Counting(credentials._hasher, threading.Event())
    hasher.may_go_on.set()
    password_hash = credentials._hasher.hash(PASSWORD)
    credentials._hasher = cast("PasswordHasher", hasher)
    people = {
        1: StoredCredential("ada", "ada@example.org", credentials.email_hmac("ada@example.org"), password_hash),
        2: StoredCredential("bob", "bob@example.org", credentials.email_hmac("bob@example.org"), None),
        3: StoredCredential("eve", "eve@example.org", credentials.email_hmac("eve@example.org"), password_hash, 5, 5),
    }
    lookups = Lookups({held.username: user_id for user_id, held in people.items()}, people)
    logins = Logins(Authentication(None, None), cast("CredentialLookups", lookups), credentials, head=lambda: 0)
    yield SignIn(logins, credentials, hasher, lookups)
    credentials.close()


WHO: Final = {
    "right": ({"username": "ada", "password": PASSWORD}, "no_tokens"),
    "right, by e-mail": ({"email": "ada@example.org", "password": PASSWORD}, "no_tokens"),
    "wrong": ({"username": "ada", "password": "not that one"}, "bad_credentials"),
    "wrong, by e-mail": ({"email": "ada@example.org", "password": "not that one"}, "bad_credentials"),
    "unknown": ({"username": "nobody", "password": PASSWORD}, "bad_credentials"),
    "unknown, by e-mail": ({"email": "no@example.org", "password": PASSWORD}, "bad_credentials"),
    "no password": ({"username": "bob", "password": PASSWORD}, "bad_credentials"),
    "suspended": ({"username": "eve", "password": PASSWORD}, "account_suspended"),
    "suspended and wrong": ({"username": "eve", "password": "not that one"}, "bad_credentials"),
    "longest": ({"username": "ada", "password": "x" * 256}, "bad_credentials"),
}
"""Who asks, and what a system without keys answers: where the password was right it has no tokens to give."""


@pytest.mark.anyio
async def test_whoever_asks_costs_the_same_work(sign_in: SignIn) -> None:
    """One hash of the same cost and two look-ups: the time of an answer says nothing about who there is."""
    seen = {}
    for name, (body, code) in WHO.items():
        sign_in.hasher.costs.clear()
        sign_in.lookups.asked.clear()
        with pytest.raises(ClientError) as refused:
            await sign_in.logins.log_in(LogIn.model_validate(body))
        assert refused.value.code == code, name
        seen[name] = (list(sign_in.hasher.costs), list(sign_in.lookups.asked))
    assert len({str(work) for work in seen.values()}) == 1, seen
    assert len(seen["unknown"][0]) == 1
    assert seen["unknown"][0][0].memory_cost >= 19 * 1024


@pytest.mark.anyio
async def test_of_many_at_once_few_are_hashed_and_the_rest_refused(sign_in: SignIn) -> None:
    """Two at a time, sixteen in all: a hash takes 19 MiB, and who waits longer than he would is told at once."""
    sign_in.hasher.may_go_on.clear()
    body = LogIn.model_validate({"username": "nobody", "password": PASSWORD})
    tries = 10 * WAITING_MAX
    outcomes: list[str] = []
    all_but_those_that_wait = asyncio.Event()

    async def log_in() -> None:
        with pytest.raises((ClientError, Overloaded)) as refused:
            await sign_in.logins.log_in(body)
        assert isinstance(refused.value, ClientError | Overloaded)
        outcomes.append(refused.value.code)
        if len(outcomes) == tries - WAITING_MAX:
            all_but_those_that_wait.set()

    async with asyncio.timeout(50), asyncio.TaskGroup() as group:
        for _ in range(tries):
            group.create_task(log_in())
        await all_but_those_that_wait.wait()
        assert set(outcomes) == {"overloaded"}
        sign_in.hasher.may_go_on.set()
    assert outcomes.count("bad_credentials") == WAITING_MAX
    assert sign_in.hasher.running_max <= THREADS


def test_a_flood_of_sign_ins_leaves_the_pod_to_others(fronted: Fronted) -> None:
    """From many addresses: 503 with Retry-After, in bounded memory. Others write, and sign in if they try again."""
    writer = fronted.system.writers[0]
    ada, tweet = fronted.system.sign_up(), fronted.system.tweet(fronted.system.cast[0])
    before = writer.memory_bytes_max

    def sign_in(password: str, address: str) -> httpx.Response:
        body = {"username": ada.username, "password": password}
        return writer.http.post("/auth/token", json=body, headers={"X-Forwarded-For": address}, timeout=60)

    with ThreadPoolExecutor(FLOODERS) as pool:
        floods = [pool.submit(sign_in, "not that one", f"203.0.113.{number}") for number in range(5 * FLOODERS)]
        for _ in range(10):  # a machine that is busy with something else may answer 503 to a write, too
            eventually(lambda: fronted.system.write.post(f"/tweets/{tweet}/like", timeout=60).status_code == 200)
        eventually(lambda: sign_in(PASSWORD, "198.51.100.9").status_code == 200, poll_seconds=0.1)
        answers = [flood.result() for flood in floods]
    assert {answer.status_code for answer in answers} <= {401, 503}
    assert all(answer.headers["Retry-After"] for answer in answers if answer.status_code == 503)
    assert writer.memory_bytes_max - before < 128 * 2**20
    assert fronted.errors_logged() == []
