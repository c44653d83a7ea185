"""Whether this Redis keeps what it has acknowledged."""

from __future__ import annotations

from typing import Final, cast

import structlog
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from services.common.log.redis_errors import translated
from services.write.errors import LogNotDurable

TIMEOUT_SECONDS: Final = 1.0

_NEEDED: Final = {
    "appendonly": ("yes", "acknowledged writes are lost when Redis stops"),
    "appendfsync": ("always", "writes of the last second are lost when its machine stops"),
}

log = structlog.get_logger(__name__)


def warn_unless_durable(redis_url: str) -> None:
    """Log a warning for each setting of Redis that may lose writes. Raises LogUnavailable."""
    for weakness in find_weaknesses(redis_url):
        log.warning("log_not_durable", weakness=weakness)


def require_durable(redis_url: str) -> None:
    """Raise LogNotDurable for a Redis that may lose writes, LogUnavailable for one that cannot be asked now."""
    weaknesses = find_weaknesses(redis_url)
    if weaknesses:
        raise LogNotDurable("LOG_DURABILITY=required, but " + "; ".join(weaknesses))


def find_weaknesses(redis_url: str) -> list[str]:
    """What about this Redis may lose writes, a sentence each. Raises LogUnavailable."""
    timeouts = {"socket_timeout": TIMEOUT_SECONDS, "socket_connect_timeout": TIMEOUT_SECONDS}
    with Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0), decode_responses=True, **timeouts) as redis:
        try:
            with translated():
                names = ("appendonly", "appendfsync", "maxmemory-policy")
                values = {name: cast("dict[str, str]", redis.config_get(name)).get(name, "") for name in names}
        except ResponseError as error:
            return [f"Redis does not tell its configuration: {error}"]
    return _judge(values)


def _judge(values: dict[str, str]) -> list[str]:
    weaknesses = [
        f"{name} is {values[name]}, not {wanted}: {consequence}"
        for name, (wanted, consequence) in _NEEDED.items()
        if values[name] != wanted
    ]
    policy = values["maxmemory-policy"]
    if policy.startswith("allkeys-"):
        weaknesses.append(f"maxmemory-policy is {policy}: Redis evicts the log itself; volatile-lru is safe")
    return weaknesses
