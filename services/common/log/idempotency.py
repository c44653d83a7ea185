"""What was appended under a client's Idempotency-Key, kept so that a retry is answered and not done again (ADR 10)."""

from __future__ import annotations

from typing import Final, NamedTuple

from services.common.ids import position_at, unix_ms_of

WINDOW_HOURS: Final = 24
"""For how long a key is remembered at least; an answer is dropped with all others of its hour."""

SCOPE_BYTES: Final = 16
"""The length of a claim's scope; append.lua and the entries of the log have scope and fingerprint in one."""

HOUR_MS: Final = 3_600_000


class IdempotencyClaim(NamedTuple):
    """A key that a client has used, and for what: digests under a secret of the writers, of 16 bytes each.

    ``scope`` is that of route, subject and key, ``fingerprint`` that of the request.
    """

    scope: bytes
    fingerprint: bytes


class IdempotencyAnswer(NamedTuple):
    """A claim and the position of what was appended under it."""

    claim: IdempotencyClaim
    position: int


def hour_of(position: int) -> int:
    """The hour of Unix time in which a position was made."""
    return unix_ms_of(position) // HOUR_MS


def first_hour(head: int) -> int:
    """The oldest hour whose answers may still be given when the log ends at ``head``."""
    return hour_of(head) - WINDOW_HOURS


def position_of_hour(hour: int) -> int:
    """The first position of an hour."""
    return position_at(hour * HOUR_MS)
