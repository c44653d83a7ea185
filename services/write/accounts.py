"""Accounts: opened, changed, closed."""

from __future__ import annotations

from typing import Final

from services.common.errors import ClientError
from services.common.events import AccountDeleted, TokensRevoked, UserCreated, UserUpdated
from services.common.ids import created_at
from services.common.log.append import AppendItem, CredentialChange, TokenHolder
from services.common.shapes import UserView
from services.write.appending import Appending
from services.write.authors import Authors
from services.write.commands import CreateUser, UpdateAccount
from services.write.credentials import Credentials
from services.write.existence import Existence, Kind
from services.write.idempotency import Claims, IdempotencyKey
from services.write.outcome import Written, done

_TAKEN: Final = {
    "username_taken": "This username is taken",
    "email_taken": "An account with this e-mail address exists",
}


class Accounts:
    """One method for each command about one's account. Each raises ClientError or OperationalError."""

    def __init__(
        self, appending: Appending, *, existence: Existence, authors: Authors, credentials: Credentials, claims: Claims
    ) -> None:
        self._appending = appending
        self._existence = existence
        self._authors = authors
        self._credentials = credentials
        self._claims = claims

    async def create(self, command: CreateUser, key: IdempotencyKey | None = None) -> Written[UserView]:
        """Open an account; its name and e-mail are unique without regard to case.

        That the password of a repeated command is the same is for the caller to check: no fast digest is made of it.
        """
        deadline = self._appending.new_deadline()
        credential = await self._credentials.claim(command.email, command.password)
        event = UserCreated(command.username)
        claim = self._claims.claim(key, event, command.email, command.password is not None)
        result = await self._appending.append(AppendItem(event, credential=credential, claim=claim), deadline)
        if isinstance(result, str) and result in _TAKEN:
            raise ClientError(409, result, _TAKEN[result])
        position, is_repeated = done(result, Kind.USER)
        view = UserView(
            id=position,
            username=command.username,
            created_at=created_at(position),
            followers_count=0,
            following_count=0,
        )
        if not is_repeated:
            self._existence.remember(Kind.USER, position)
            self._authors.remember(view)
        return Written(position, view, is_repeated)

    async def revoke_tokens(self, holder: TokenHolder) -> Written[None]:
        """Make every token of this account useless, the one in use among them."""
        return await self._change(TokensRevoked(user_id=holder.user_id), holder)

    async def update(self, command: UpdateAccount, holder: TokenHolder) -> Written[None]:
        """Change what the command gives; a new password makes all tokens useless."""
        change = await self._credentials.change(command.email, command.password)
        event = UserUpdated(user_id=holder.user_id, display_name=command.name, bio=command.bio)
        return await self._change(event, holder, change)

    async def delete(self, holder: TokenHolder) -> Written[None]:
        """Remove the account, its tweets and what it keeps in confidence; its name is held for a while."""
        return await self._change(AccountDeleted(user_id=holder.user_id), holder)

    async def _change(
        self,
        event: TokensRevoked | UserUpdated | AccountDeleted,
        holder: TokenHolder,
        change: CredentialChange | None = None,
    ) -> Written[None]:
        result = await self._appending.append(
            AppendItem(event, change=change, holder=holder), self._appending.new_deadline()
        )
        if result == "email_taken":
            raise ClientError(409, "email_taken", _TAKEN["email_taken"])
        position, _ = done(result, Kind.USER)
        return Written(position, None)
