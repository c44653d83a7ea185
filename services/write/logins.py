"""Tokens for whoever has proved who they are: by a password, or by an earlier refresh token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.common.auth import Authentication, TokenPair, check_not_revoked, check_not_suspended, unauthorized
from services.common.errors import ClientError
from services.common.log.client import StoredCredential
from services.common.log.credentials import CredentialLookups
from services.write.commands import CreateUser, LogIn, Refresh
from services.write.credentials import Credentials
from services.write.idempotency import IdempotencyKey, idempotency_mismatch

_NOBODY: Final = 0
"""No user's id: nothing is kept of it, and finding that out takes a look-up like any other."""


class Logins:
    """``head`` gives the greatest position of the log that is known here."""

    def __init__(
        self,
        authentication: Authentication,
        lookups: CredentialLookups,
        credentials: Credentials,
        *,
        head: Callable[[], int],
    ) -> None:
        self._authentication = authentication
        self._lookups = lookups
        self._credentials = credentials
        self._head = head

    async def log_in(self, command: LogIn) -> TokenPair:
        """Tokens for a name or e-mail and its password.

        An unknown name, an account without a password and a wrong password take the same work and get the same
        answer. Raises ClientError 401 for these, 403 for a suspended account, Overloaded and LogUnavailable.
        """
        known_position = self._head()  # before the proof: a revocation that comes while we hash holds for this token
        user_id, found = await self._find(command)
        password_hash = found.password_hash if found is not None else None
        if not await self._credentials.is_password(password_hash, command.password) or found is None:
            raise unauthorized("bad_credentials", "No account with this name or e-mail has this password")
        check_not_suspended(found.suspended_position)
        return self.issue(user_id, max(known_position, found.revoked_position))

    async def refresh(self, command: Refresh) -> TokenPair:
        """New tokens for a refresh token; it stays good itself. Raises ClientError 401 or 403, LogUnavailable."""
        known_position = self._head()
        claims = self._authentication.refresh(command.refresh_token)
        found = await self._lookups.of_user(claims.user_id)
        if found is None:
            raise unauthorized("token_revoked", "This account has been deleted")
        check_not_suspended(found.suspended_position)
        check_not_revoked(claims, found.revoked_position)
        return self.issue(claims.user_id, max(known_position, found.revoked_position))

    def issue(self, user_id: int, position: int) -> TokenPair:
        """Tokens that survive revocations up to a position. Raises ClientError 404 without keys."""
        pair = self._authentication.issue(user_id, position)
        if pair is None:
            raise ClientError(404, "no_tokens", "This service has no keys to sign tokens with")
        return pair

    def of_new_account(self, user_id: int) -> TokenPair | None:
        """The first tokens of an account, None without keys."""
        return self._authentication.issue(user_id, user_id)

    async def of_repeated_account(self, user_id: int, command: CreateUser, key: IdempotencyKey) -> TokenPair | None:
        """Tokens for who opened an account and asks again, under the key of then; None where they prove too little.

        Who knows address, key and body of somebody else's request must not get her account. The proof is the password,
        and for an account that never had one the key, if it is long enough to be a secret. Nobody gets around a
        revocation. Raises ClientError 422 for another password than the account has, Overloaded and LogUnavailable.
        """
        found = await self._lookups.of_user(user_id)
        if found is None or found.suspended_position:  # deleted or suspended since
            return None
        if command.password is not None:
            if not await self._credentials.is_password(found.password_hash, command.password):
                raise idempotency_mismatch()
            return self._authentication.issue(user_id, max(user_id, found.revoked_position))
        if found.password_hash is not None or found.revoked_position > user_id or not key.is_secret:
            return None
        return self.of_new_account(user_id)

    async def _find(self, command: LogIn) -> tuple[int, StoredCredential | None]:
        if command.username is not None:
            user_id = await self._lookups.user_named(command.username)
        else:
            user_id = await self._lookups.user_with_email(self._credentials.email_hmac(command.email or ""))
        user_id = user_id or _NOBODY
        return user_id, await self._lookups.of_user(user_id)
