"""What has been revoked lately, in the memory of each verifier.

A revocation at position R ends every token of its user whose position is below R. Access tokens are checked against
this memory and nothing else, so it holds a revocation for as long as an access token issued before it can live.
Refresh tokens live far longer; they are checked against ``revoked_position`` in ``cred:{user}``.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog

from services.common.auth.errors import unauthorized
from services.common.auth.tokens import LIFE_SECONDS, Claims

KEPT_SECONDS: Final = LIFE_SECONDS["access"] + 120
"""An access token's life, twice the leeway, and time for a token that was being issued at the revocation.

A verifier that starts must read at least this much of the log before it is ready.
"""

USERS_MAX: Final = 100_000

log = structlog.get_logger(__name__)


class _Noted(NamedTuple):
    position: int
    at: float


class Revocations:
    """The latest revocation of each user. One thread notes, any thread asks.

    An entry is dropped KEPT_SECONDS after it was noted here: by our own elapsed time and not by the time in its
    position, because Redis's clock may jump by an hour (ADR 2), and a revocation forgotten early would be undone.
    With more than USERS_MAX users the oldest entry goes early, and then every access token as old as it is refused:
    its holder must refresh it once, and nobody gains anything.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, users_max: int = USERS_MAX) -> None:
        self._monotonic = monotonic
        self._users_max = users_max
        self._noted: OrderedDict[int, _Noted] = OrderedDict()
        self._floor = 0

    def note(self, user_id: int, position: int) -> None:
        """All tokens of the user that were issued below this position of the log are revoked."""
        now = self._monotonic()
        before = self._noted.get(user_id)
        # Set, then moved: the user is in here at every moment at which another thread may ask.
        self._noted[user_id] = _Noted(position if before is None else max(position, before.position), now)
        self._noted.move_to_end(user_id)
        self._forget(now)

    def revoked_position(self, user_id: int) -> int:
        """Access tokens of this user from below this position are revoked; 0 if none are."""
        noted = self._noted.get(user_id)
        return self._floor if noted is None else max(noted.position, self._floor)

    def _forget(self, now: float) -> None:
        while now - next(iter(self._noted.values())).at > KEPT_SECONDS:
            self._noted.popitem(last=False)
        if len(self._noted) > self._users_max:
            if not self._floor:
                log.warning("revocations_full", users_max=self._users_max, consequence="old access tokens are refused")
            oldest = next(iter(self._noted.values()))
            self._floor = max(self._floor, oldest.position)
            self._noted.popitem(last=False)


def check_not_revoked(claims: Claims, revoked_position: int) -> None:
    """Raises ClientError 401 ``token_revoked`` for a token issued below the position of a revocation (0: none)."""
    if claims.position < revoked_position:
        raise unauthorized("token_revoked", "This token has been revoked")
