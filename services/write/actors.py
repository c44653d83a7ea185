"""Who acts: whoever a request's token says, and without one whom the request names."""

from __future__ import annotations

import msgspec

from services.common.auth import Authentication
from services.common.errors import ClientError
from services.common.log.append import TokenHolder


class Actor(msgspec.Struct, frozen=True):
    """As whom something is done, None for anonymously, and the proof of it if there is one."""

    user_id: int | None
    holder: TokenHolder | None = None

    def named(self) -> int:
        """The user who acts, where nobody can anonymously. Raises ClientError 422."""
        if self.user_id is None:
            raise ClientError(422, "user_id_missing", "Say who acts: send a token, or user_id")
        return self.user_id


class Gate:
    """Lets writes in: with a good token, or without any unless ``is_required``."""

    def __init__(self, authentication: Authentication, *, is_required: bool) -> None:
        self._authentication = authentication
        self._is_required = is_required

    def holder(self, authorization: bytes | None) -> TokenHolder | None:
        """Whose token this header holds. A token that is sent must be good, needed or not. Raises ClientError 401."""
        if authorization is None and not self._is_required:
            return None
        return self.proven_holder(authorization)

    def proven_holder(self, authorization: bytes | None) -> TokenHolder:
        """The same where nothing can be done without a token."""
        claims = self._authentication.bearer(authorization)
        return TokenHolder(claims.user_id, claims.position)


def actor_of(holder: TokenHolder | None, named_id: int | None) -> Actor:
    """Who acts, if a request's body names ``named_id``. Raises ClientError 403 for anybody but oneself."""
    if holder is None:
        return Actor(named_id)
    if named_id not in {None, holder.user_id}:
        raise ClientError(403, "not_yourself", "One acts only as oneself")
    return Actor(holder.user_id, holder)
