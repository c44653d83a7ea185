"""One's own account: what everybody may see of it, and what only its holder may."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from services.common.auth import Authentication, Claims, check_not_revoked, check_not_suspended, unauthorized
from services.common.log.credentials import CredentialLookups
from services.common.views import ProfileView
from services.read.encoded import PRIVATE, Encoded


class OwnAccountView(ProfileView):
    """An account as its holder sees it."""

    email: str


class OwnAccounts:
    """E-mail addresses are in no replica: they are asked for in Redis, once, within a bound."""

    def __init__(self, authentication: Authentication, lookups: CredentialLookups) -> None:
        self._authentication = authentication
        self._lookups = lookups

    def holder(self, authorization: bytes | None) -> Claims:
        """Who sent this header. Raises ClientError 401; the token may still be revoked."""
        return self._authentication.bearer(authorization)

    async def complete(self, claims: Claims, profile: Encoded) -> Encoded:
        """The holder's account, from her profile. Raises ClientError 401 if her token is revoked, LogUnavailable."""
        found = await self._lookups.of_user(claims.user_id)
        if found is None or profile.status != 200:
            raise unauthorized("token_revoked", "This account has been deleted")
        check_not_suspended(found.suspended_position)
        check_not_revoked(claims, found.revoked_position)
        fields = msgspec.json.decode(profile.body, type=dict[str, object])
        return replace(profile, body=msgspec.json.encode({**fields, "email": found.email}), cache_control=PRIVATE)
