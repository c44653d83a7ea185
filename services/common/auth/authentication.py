"""Authentication as a service does it: who sent a request, and tokens for who has proved it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from services.common.auth.errors import unauthorized
from services.common.auth.header import bearer_token
from services.common.auth.issuer import TokenIssuer
from services.common.auth.keyring import Keyring
from services.common.auth.metrics import AuthMetrics
from services.common.auth.tokens import LIFE_SECONDS, Claims
from services.common.auth.verifier import TokenVerifier
from services.common.errors import ClientError


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a client is given; ``expires_in`` are the seconds that the access token is good for."""

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme
    expires_in: int = LIFE_SECONDS["access"]


class Authentication:
    """Without keys nobody is given a token, and no token is good."""

    def __init__(self, verifier: TokenVerifier | None, issuer: TokenIssuer | None) -> None:
        self._verifier = verifier
        self._issuer = issuer

    @classmethod
    def with_keys_of(cls, path: Path | None, metrics: AuthMetrics) -> Self:
        """Follow a file of keys. Raises KeysUnfit."""
        if path is None:
            return cls(None, None)
        keyring = Keyring(path, metrics)
        return cls(TokenVerifier(keyring, metrics), TokenIssuer(keyring))

    def bearer(self, authorization: bytes | None) -> Claims:
        """Who sent this Authorization header. Raises ClientError 401; it may still be revoked."""
        if self._verifier is None:
            bearer_token(authorization)
            raise _without_keys()
        return self._verifier.bearer(authorization)

    def account(self, authorization: bytes) -> int | None:
        """Whose good token an Authorization header holds, None for anything else; it may still be revoked."""
        if self._verifier is None:
            return None
        try:
            return self._verifier.look_at(authorization).user_id
        except ClientError:
            return None

    def refresh(self, token: str) -> Claims:
        """Whose refresh token this is. Raises ClientError 401; it may still be revoked."""
        if self._verifier is None:
            raise _without_keys()
        return self._verifier.refresh(token)

    def issue(self, user_id: int, position: int) -> TokenPair | None:
        """A pair for this user, None without keys; see TokenIssuer.issue for the position."""
        if self._issuer is None:
            return None
        return TokenPair(
            access_token=self._issuer.issue("access", user_id, position),
            refresh_token=self._issuer.issue("refresh", user_id, position),
        )


def _without_keys() -> ClientError:
    return unauthorized("token_signature", "No key in use has signed this token")
