"""Making tokens."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from services.common.auth.keyring import Keyring
from services.common.auth.tokens import LIFE_SECONDS, Claims, TokenKind, encode


class TokenIssuer:
    """Signs tokens with the newest key. ``now`` gives Unix seconds."""

    def __init__(self, keyring: Keyring, now: Callable[[], float] = time.time) -> None:
        self._keyring = keyring
        self._now = now

    def issue(self, kind: TokenKind, user_id: int, position: int) -> str:
        """A new token for the user, never the same one twice.

        ``position`` decides which revocations it survives: those up to there. It must be one that was known
        **before** the proof (password, refresh token) was checked, or the ``revoked_position`` read with that proof
        if that is greater; for a new account its own position. Were it taken afterwards, a revocation that came
        while the password was being hashed would not hold for this token.
        """
        now = self._now()
        issued_at = int(now)
        expires_at = issued_at + LIFE_SECONDS[kind]
        claims = Claims(user_id, kind, position, issued_at, expires_at, secrets.token_urlsafe(12))
        return encode(claims, self._keyring.current().signer(now))
