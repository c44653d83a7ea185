"""What users give in confidence, made safe to keep: a keyed hash of the e-mail, a slow one of the password."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import SecretStr

from services.common.errors import Overloaded
from services.common.log.append import CredentialChange, CredentialClaim

# OWASP's first choice for argon2id with one lane: 19 MiB and about 20 ms for each hash.
_TIME_COST: Final = 2
_MEMORY_COST_KIB: Final = 19_456
_PARALLELISM: Final = 1

THREADS: Final = 2
WAITING_MAX: Final = 16  # about 0.2 s of work for the threads

T = TypeVar("T")


class Credentials:
    """Makes what travels beside an event into ``cred:{user}``. Hashes passwords in a few threads of its own."""

    def __init__(self, email_key: SecretStr) -> None:
        self._email_key = email_key
        self._hasher = PasswordHasher(_TIME_COST, _MEMORY_COST_KIB, _PARALLELISM)
        self._decoy = self._hasher.hash(secrets.token_hex(32))  # of a password that nobody has
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._waiting = 0

    async def claim(self, email: str, password: SecretStr | None) -> CredentialClaim:
        """The claim of a normalised e-mail and a password. Raises Overloaded if too many passwords are waiting."""
        return CredentialClaim(email, self.email_hmac(email), await self._hash(password))

    async def change(self, email: str | None, password: SecretStr | None) -> CredentialChange:
        """The same for an account that changes one of these, both or none."""
        email_hmac = None if email is None else self.email_hmac(email)
        return CredentialChange(email, email_hmac, await self._hash(password))

    async def is_password(self, password_hash: str | None, password: SecretStr) -> bool:
        """Whether this is the password; without a hash it is not, and finding that out takes as long."""
        work = functools.partial(self._verify, password_hash or self._decoy, password.get_secret_value())
        return await self._in_thread(work)

    def email_hmac(self, email: str) -> str:
        """Equal for equal addresses, in any case; says nothing to whoever lacks the key."""
        key = self._email_key.get_secret_value().encode()
        return hmac.new(key, email.lower().encode(), hashlib.sha256).hexdigest()

    async def _hash(self, password: SecretStr | None) -> str | None:
        if password is None:
            return None
        return await self._in_thread(functools.partial(self._hasher.hash, password.get_secret_value()))

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING_MAX:
            raise Overloaded("too many passwords are waiting to be hashed")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown()
