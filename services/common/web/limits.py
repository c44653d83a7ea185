"""Which limit a request counts against, and how its answer says so (RateLimit fields, IETF draft 10)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final, Self

from prometheus_client import CollectorRegistry
from starlette.types import Scope

from services.common.errors import ClientError
from services.common.limits import Admission, Leases, Limit, Limiter, LimitMetrics
from services.common.settings import PublicSettings, split_list
from services.common.web.client_address import Client, address_of
from services.common.web.health import HEALTH_PREFIX

Header = tuple[bytes, bytes]

WINDOW_SECONDS: Final = 10
SIGN_IN_WINDOW_SECONDS: Final = 60
SIGN_INS: Final = frozenset({("POST", "/users"), ("POST", "/auth/token")})
"""Where passwords are guessed and accounts are made by the thousand."""
_REMEMBERED_MAX: Final = 4096


class RateLimited(ClientError):
    """This account or address has asked too often."""

    def __init__(self, headers: list[Header], retry_after_seconds: int) -> None:
        super().__init__(429, "rate_limited", "Too many requests: try again later")
        self.headers = headers
        self.retry_after_seconds = retry_after_seconds


class RequestLimits:
    """The limits of one service: those of its settings that are not 0.

    A good token's requests count for its account, all others for their address; what signs somebody in or opens an
    account counts for the address, by a limit of its own. Health checks do not count, nor does what comes from one of
    TRUSTED_PROXIES itself and not through it: that is a part of the system.

    ``account`` says whose good token an Authorization header holds; it may still be revoked.
    """

    def __init__(
        self,
        service: str,
        settings: PublicSettings,
        registry: CollectorRegistry,
        account: Callable[[bytes], int | None],
        sign_ins_per_minute: int = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._leases = Leases(settings.cache_url or settings.redis_url, LimitMetrics(registry))
        self._accounts = self._limiter(f"{service}-account", settings.account_requests_per_second * WINDOW_SECONDS)
        self._addresses = self._limiter(f"{service}-address", settings.address_requests_per_second * WINDOW_SECONDS)
        self._sign_ins = self._limiter("sign-in", sign_ins_per_minute, SIGN_IN_WINDOW_SECONDS)
        limiters = [limiter for limiter in (self._accounts, self._addresses, self._sign_ins) if limiter is not None]
        self._line_formats = {limiter: _line_format(limiter.limit) for limiter in limiters}
        self._account = account
        self._is_own = _membership(settings.trusted_proxies)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leases.aclose()

    @property
    def are_on(self) -> bool:
        """Whether there is anything to count."""
        return any((self._accounts, self._addresses, self._sign_ins))

    async def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> list[Header]:
        """Count a request, and return what its answer says of that. Raises RateLimited."""
        if scope["path"].startswith(HEALTH_PREFIX):
            return []
        is_sign_in = self._sign_ins is not None and (scope["method"], scope["path"]) in SIGN_INS
        limiter, subject = self._limiter_of(scope.get("client"), headers, is_sign_in=is_sign_in)
        if limiter is None:
            return []
        admission = await limiter.admit(subject)
        fields = _fields(limiter.limit, admission)
        if not admission.is_admitted:
            raise RateLimited(fields, admission.reset_seconds)
        return fields

    def check_now(self, client: Client | None, headers: Mapping[bytes, bytes]) -> bytes | None:
        """The same, as lines, for a request that may pass by what is known here; None for others, not counted.

        Of hot requests, of which none signs anybody in.
        """
        limiter, subject = self._limiter_of(client, headers, is_sign_in=False)
        if limiter is None:
            return b""
        admitted = limiter.admit_now(subject)
        return None if admitted is None else self._line_formats[limiter] % admitted

    def _limiter_of(
        self, client: Client | None, headers: Mapping[bytes, bytes], *, is_sign_in: bool
    ) -> tuple[Limiter | None, str]:
        authorization = headers.get(b"authorization")
        if self._accounts is not None and authorization is not None and not is_sign_in:
            user_id = self._account(authorization)
            if user_id is not None:
                return self._accounts, str(user_id)
        if client is not None and self._is_own(client[0]):
            return None, ""
        return self._sign_ins if is_sign_in else self._addresses, address_of(client)

    def _limiter(self, name: str, quota: int, window_seconds: int = WINDOW_SECONDS) -> Limiter | None:
        return Limiter(Limit(name, quota, window_seconds), self._leases.take, self._now) if quota else None


def _membership(networks: str) -> Callable[[str], bool]:
    """Whether an address lies in one of these networks."""
    parsed = [ip_network(network) for network in split_list(networks)]

    @lru_cache(_REMEMBERED_MAX)
    def contains(text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in parsed)

    return contains


@lru_cache
def _policy(limit: Limit) -> tuple[bytes, Header]:
    """The name, and the field that is in every answer."""
    name = limit.name.encode()
    return name, (b"ratelimit-policy", b'"%s";q=%d;w=%d' % (name, limit.quota, limit.window_seconds))


def _fields(limit: Limit, admission: Admission) -> list[Header]:
    name, policy = _policy(limit)
    _, remaining, reset_seconds = admission
    return [policy, (b"ratelimit", b'"%s";r=%d;t=%d' % (name, remaining, reset_seconds))]


def _line_format(limit: Limit) -> bytes:
    """The lines of ``_fields``, for what remains and the seconds that it is for."""
    name, (field, policy) = _policy(limit)
    return b'%s: %s\r\nratelimit: "%s";r=%%d;t=%%d\r\n' % (field, policy, name)
