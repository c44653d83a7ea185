"""A system where writes need a token, and people who have one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx

from services.common.auth import add_key
from services.common.log.client import EventLog
from tests.support.system import System

PASSWORD: Final = "correct horse battery"
TOKEN_FIELDS: Final = {"access_token", "refresh_token", "token_type", "expires_in"}


@dataclass(frozen=True)
class Account:
    """Somebody with tokens."""

    id: int
    username: str
    tokens: dict[str, Any]

    @property
    def email(self) -> str:
        """Her address."""
        return f"{self.username}@example.org"

    @property
    def headers(self) -> dict[str, str]:
        """What she sends with every request."""
        return bearer(self.tokens["access_token"])


class Guarded(System):
    """A system where every write needs a token; settings of the services go before those of this class."""

    def __init__(
        self,
        directory: Path,
        *,
        is_required: bool = True,
        readers: int = 1,
        writers: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.key_file = directory / "keys" / "auth.json"
        add_key(self.key_file, int(time.time()))
        settings = {"AUTH_KEYS_FILE": str(self.key_file), "AUTH_REQUIRED": str(is_required).lower()}
        super().__init__(directory, readers=readers, writers=writers, environment={**settings, **(environment or {})})
        self.log = EventLog(self.redis.url)

    @cached_property
    def cast(self) -> tuple[Account, Account, int]:
        """Two accounts and a tweet of the second one, for tests that change neither account."""
        ada, bob = self.sign_up(None), self.sign_up(None)
        return ada, bob, self.tweet(bob)

    def sign_up(self, password: str | None = PASSWORD) -> Account:
        """A new account."""
        username = f"user_{uuid4().hex[:12]}"
        body = {"username": username, "email": f"{username}@example.org"}
        answer = self.write.post("/users", json=body if password is None else {**body, "password": password})
        assert answer.status_code == 201, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        return Account(answer.json()["id"], username, answer.json())

    def tweet(self, account: Account) -> int:
        """The id of a new tweet."""
        answer = self.write.post("/tweets", json={"content": "hello"}, headers=account.headers)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def me(self, account: Account, position: int = 0) -> httpx.Response:
        """Her own account, at or after a position."""
        headers = {**account.headers, "X-Min-Position": str(position)} if position else account.headers
        return self.read.get("/users/me", headers=headers)


def bearer(token: str) -> dict[str, str]:
    """The header that a token is sent in."""
    return {"Authorization": f"Bearer {token}"}


def refusal(answer: httpx.Response) -> tuple[int, str | None]:
    """Status and code; no code where nothing was refused."""
    return answer.status_code, answer.json().get("code")
