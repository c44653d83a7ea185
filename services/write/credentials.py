"""What a new user gives in confidence, made safe to keep: a keyed hash of the e-mail, a slow one of the password."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from argon2 import PasswordHasher
from pydantic import SecretStr

from services.common.log.append import CredentialClaim
from services.write.errors import Overloaded

# OWASP's first choice for argon2id with one lane: 19 MiB and about 20 ms for each hash.
_TIME_COST: Final = 2
_MEMORY_COST_KIB: Final = 19_456
_PARALLELISM: Final = 1

THREADS: Final = 2
WAITING_MAX: Final = 16  # about 0.2 s of work for the threads


class Credentials:
    """Makes the claims that travel beside a ``UserCreated``. Hashes passwords in a few threads of its own."""

    def __init__(self, email_key: SecretStr) -> None:
        self._email_key = email_key
        self._hasher = PasswordHasher(_TIME_COST, _MEMORY_COST_KIB, _PARALLELISM)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="argon2")
        self._waiting = 0

    async def claim(self, email: str, password: SecretStr | None) -> CredentialClaim:
        """The claim of a normalised e-mail and a password. Raises Overloaded if too many passwords are waiting."""
        password_hash = None if password is None else await self._hash(password)
        return CredentialClaim(email=email, email_hmac=self.email_hmac(email), password_hash=password_hash)

    def email_hmac(self, email: str) -> str:
        """Equal for equal addresses, in any case; says nothing to whoever lacks the key."""
        key = self._email_key.get_secret_value().encode()
        return hmac.new(key, email.lower().encode(), hashlib.sha256).hexdigest()

    async def _hash(self, password: SecretStr) -> str:
        if self._waiting >= WAITING_MAX:
            raise Overloaded("too many passwords are waiting to be hashed")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._hasher.hash, password.get_secret_value())
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown()
