"""Idempotency keys: what a client calls a request, so that it can send it again without doing it again (ADR 10)."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from typing import Final

import msgspec
from pydantic import SecretStr

from services.common import events
from services.common.errors import ClientError
from services.common.events import Event
from services.common.log.idempotency import SCOPE_BYTES, IdempotencyClaim

KEY_CHARS_MAX: Final = 255
SECRET_CHARS_MIN: Final = 32
"""A key of this length is taken for a random one, which nobody else can guess; a UUID has 36."""

_KEY = re.compile(rf"[!-~]{{1,{KEY_CHARS_MAX}}}")


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A client's name for a request. Those of two subjects (users, or addresses) share nothing."""

    subject: str
    text: str

    @property
    def is_secret(self) -> bool:
        """Whether to know it proves to be who chose it."""
        return len(self.text) >= SECRET_CHARS_MIN


def check_key(text: str) -> None:
    """Raise ClientError 400 unless this is 1 to KEY_CHARS_MAX visible ASCII characters."""
    if not _KEY.fullmatch(text):
        raise ClientError(
            400, "bad_idempotency_key", f"An Idempotency-Key has 1 to {KEY_CHARS_MAX} visible ASCII characters"
        )


def idempotency_mismatch() -> ClientError:
    """The 422 for a key that was used for another request."""
    return ClientError(422, "idempotency_mismatch", "This Idempotency-Key was used for another request")


class Claims:
    """Makes claims of keys, under a secret that all write services share.

    Without it nobody can tell from a claim which address, key or e-mail address it was made of.
    """

    def __init__(self, secret: SecretStr) -> None:
        self._secret = hmac.digest(secret.get_secret_value().encode(), b"idempotency", "sha256")

    def claim(self, key: IdempotencyKey | None, event: Event, *private: str | bool) -> IdempotencyClaim | None:
        """The claim to append this event once; ``private`` is what else of the request makes it another one.

        The type of the event stands for the route: every POST that appends has a type of its own.
        """
        if key is None:
            return None
        scope = self._digest("scope", event.name, key.subject, key.text)
        return IdempotencyClaim(scope, self._digest("request", events.encode(event), *private))

    def _digest(self, *parts: str | bytes | bool) -> bytes:
        return hmac.digest(self._secret, msgspec.json.encode(parts), "sha256")[:SCOPE_BYTES]
