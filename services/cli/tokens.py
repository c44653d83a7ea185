"""Tokens that the operator issues, with the keys that the services have: whoever holds those may act as anybody."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Self

from services.cli.errors import USAGE, CommandFailed
from services.common.auth import AuthMetrics, Keyring, KeysUnfit, TokenIssuer, TokenPair
from services.common.auth.tokens import LIFE_SECONDS
from services.common.telemetry import create_registry

RENEWED_AFTER_SECONDS: Final = LIFE_SECONDS["access"] / 2


class OperatorTokens:
    """Issues tokens and remembers access tokens for half their life; safe to use from several threads."""

    def __init__(self, issuer: TokenIssuer) -> None:
        self._issuer = issuer
        self._issued: dict[int, tuple[str, float]] = {}

    @classmethod
    def with_keys_of(cls, path: Path) -> Self:
        """Sign with the keys in this file. Raises CommandFailed for one that cannot be used."""
        try:
            return cls(TokenIssuer(Keyring(path, AuthMetrics(create_registry()))))
        except KeysUnfit as error:
            raise CommandFailed(f"AUTH_KEYS_FILE: {path}: {error}", USAGE) from error

    def access_token(self, user_id: int, position: int) -> str:
        """A token to act as this user, good for minutes; revocations up to the position do not concern it."""
        token, issued_at = self._issued.get(user_id, ("", 0.0))
        if not token or time.monotonic() - issued_at > RENEWED_AFTER_SECONDS:
            token = self._issuer.issue("access", user_id, max(user_id, position))
            self._issued[user_id] = token, time.monotonic()
        return token

    def pair(self, user_id: int, position: int) -> TokenPair:
        """Tokens as a log-in gives them."""
        return TokenPair(
            access_token=self._issuer.issue("access", user_id, position),
            refresh_token=self._issuer.issue("refresh", user_id, position),
        )


def tokens_if_there_are_keys(path: Path) -> OperatorTokens | None:
    """None without such a file: then there are no tokens, and perhaps none are needed."""
    return OperatorTokens.with_keys_of(path) if path.exists() else None
