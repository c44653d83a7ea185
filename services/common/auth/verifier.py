"""Checking tokens, on the path of every request that has one."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from services.common.auth.errors import suspended, unauthorized
from services.common.auth.keyring import Keyring
from services.common.auth.metrics import AuthMetrics
from services.common.auth.signing_keys import KeySet
from services.common.auth.tokens import LEEWAY_SECONDS, Claims, TokenKind, decode
from services.common.errors import ClientError

CACHED_TOKENS_MAX: Final = 8192


class TokenVerifier:
    """Says whose a token is. ``now`` gives Unix seconds.

    A token that it accepts may still be revoked: that is known to Redis only, in the same call that writes (the
    append script) or that reads the credentials (check_not_revoked). See ADR 8.

    Signature and form are checked once and remembered with the keys that vouch for them, so that other keys start
    with nothing remembered; time and kind are checked each time. May be used from several threads.

    Measured (one busy core, Python 3.11): 90 microseconds at the first look at a token, 1 from then on, a look at
    three clocks and a dictionary. A remembered token takes 750 bytes, so 6 MB for CACHED_TOKENS_MAX. A forged
    token costs 95 microseconds each time, since only good ones are remembered: nobody can push those out.
    """

    def __init__(
        self,
        keyring: Keyring,
        metrics: AuthMetrics,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keyring = keyring
        self._metrics = metrics
        self._now = now
        self._decoded = _Decoded(keyring.current())

    def verify(self, token: str, kind: TokenKind) -> Claims:
        """The claims of a token of this kind. Raises ClientError 401 with a code of auth/errors.py, nothing else."""
        try:
            return self.look_at(token, kind)
        except ClientError as error:
            self._metrics.refusals.labels(error.code).inc()
            raise

    def look_at(self, token: str, kind: TokenKind) -> Claims:
        """As ``verify``, and counts no refusal: for who does not refuse."""
        claims = self._decode(token)
        self._check(claims, kind)
        return claims

    def _decode(self, token: str) -> Claims:
        keys = self._keyring.current()
        decoded = self._decoded
        if decoded.keys is not keys:
            decoded = self._decoded = _Decoded(keys)
        return decoded.claims(token)

    def _check(self, claims: Claims, kind: TokenKind) -> None:
        now = self._now()
        if claims.kind != kind:
            raise unauthorized("token_kind", f"This needs a token of the kind: {kind}")
        if now >= claims.expires_at + LEEWAY_SECONDS:
            raise unauthorized("token_expired", "This token has expired")
        if now < claims.issued_at - LEEWAY_SECONDS:
            raise unauthorized("token_early", "This token was issued in the future")


class _Decoded:
    """The last tokens that these keys have vouched for, and their claims."""

    def __init__(self, keys: KeySet) -> None:
        self.keys = keys
        self.claims: Callable[[str], Claims] = lru_cache(CACHED_TOKENS_MAX)(lambda token: decode(token, keys))


def check_not_suspended(suspended_position: int) -> None:
    """Raises ClientError 403 ``account_suspended`` for an account that has been since a position (0: it is not)."""
    if suspended_position:
        raise suspended()


def check_not_revoked(claims: Claims, revoked_position: int) -> None:
    """Raises ClientError 401 ``token_revoked`` for a token issued below the position of a revocation (0: none)."""
    if claims.position < revoked_position:
        raise unauthorized("token_revoked", "This token has been revoked")
