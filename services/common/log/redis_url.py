"""Where a Redis URL leads: to a server, or to the master that Sentinels name (ADR 23).

``redis+sentinel://user:password@host1:26379,host2:26379/mymaster`` (``rediss+sentinel://`` with TLS to all of them).
User and password are for Redis, ``?sentinel_username=&sentinel_password=`` for the Sentinels; the other options are
those of a ``redis://`` URL. Every new connection asks anew which server is the master.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

from redis import Redis
from redis.asyncio import ConnectionPool as AsyncConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.exceptions import ConnectionError  # noqa: A004 - its name there
from redis.retry import Retry
from redis.sentinel import Sentinel

SENTINEL_PORT: Final = 26379
SENTINEL_SECONDS: Final = 0.2
"""How long a Sentinel may take to answer before the next one is asked."""

_SENTINEL_SUFFIX: Final = "+sentinel"
_SCHEMES: Final = ("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://")


class _Misnamed(ValueError):
    """What is wrong with a URL, in words of ours."""


@dataclass(frozen=True, slots=True)
class _Sentinels:
    """What a URL says of Sentinels; ``arguments`` are redis-py's, for connections to the master."""

    addresses: list[tuple[str, int]]
    master: str
    is_tls: bool
    arguments: dict[str, Any]
    sentinel_arguments: dict[str, Any]


def check_redis_url(url: str) -> str:
    """Return the URL as it is. Raises ValueError for one that leads nowhere."""
    if not url.startswith(_SCHEMES):
        raise ValueError(
            "must look like redis://host:6379 (or rediss://, or unix:///path), "
            "or redis+sentinel://host1:26379,host2:26379/mymaster"
        )
    try:
        is_whole = _is_whole(url)
    except _Misnamed:
        raise
    except ValueError:  # its words quote what it takes for a port, and that may be a part of a password
        is_whole = False
    if not is_whole:
        raise ValueError(
            "must look like redis://user:password@host:6379/0; in a password, / is %2F, # is %23, ? is %3F"
        )
    return url


def _is_whole(url: str) -> bool:
    """Whether it names a server or Sentinels, and has nothing left over. Raises ValueError."""
    parts = urlsplit(url)
    if parts.fragment or "@" in parts.query:
        return False
    if is_sentinel(url):
        return bool(_sentinels(url))
    parse_url(url)  # type: ignore[no-untyped-call]
    database = parts.path.strip("/")
    return parts.scheme == "unix" or not database or database.isdigit()


def is_sentinel(redis_url: str) -> bool:
    """Whether Sentinels say which server it is; then a replica may take its place at any time."""
    return urlsplit(redis_url).scheme.endswith(_SENTINEL_SUFFIX)


def without_password(redis_url: str) -> str:
    """The URL as it may be shown: without account and options, which may hold passwords."""
    parts = urlsplit(redis_url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def redis_client(redis_url: str, timeout_seconds: float) -> Redis:
    """A client that tries once, and waits no longer for any answer."""
    once: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "protocol": 2}
    within = {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
    if not is_sentinel(redis_url):
        return Redis.from_url(redis_url, **once, **within)
    found = _sentinels(redis_url)
    at_sentinels = {**found.sentinel_arguments, **once}
    sentinel = Sentinel(found.addresses, sentinel_kwargs=at_sentinels)  # type: ignore[no-untyped-call]  # not typed there
    arguments = {"ssl": found.is_tls, **found.arguments, **once, **within}
    return cast("Redis", sentinel.master_for(found.master, **arguments))  # type: ignore[no-untyped-call]


def connection_pool(redis_url: str, pool_type: type[AsyncConnectionPool], **arguments: Any) -> AsyncConnectionPool:
    """A pool of this type for an event loop, whose connections try once."""
    pool = _pool(redis_url, pool_type, arguments)
    pool.connection_class = type("Connection", (_ToldClosed, pool.connection_class), {})
    return pool


def connection_to(redis_url: str) -> AbstractConnection:
    """A connection, not yet open, that neither retries nor resends, whatever the URL's query says.

    Without a timeout of its own, which would be a task for each command: who asks bounds what it asks.
    """
    pool = connection_pool(redis_url, AsyncConnectionPool, socket_timeout=None)
    return cast("AbstractConnection", pool.make_connection())  # type: ignore[no-untyped-call]  # not typed there


class _ToldClosed(AbstractConnection):
    """Where the server has closed a connection uvloop raises a RuntimeError, which redis-py lets through."""

    async def send_packed_command(self, *arguments: Any, **named: Any) -> None:
        """Send a command. Raises redis-py's ConnectionError on a connection that is closed."""
        try:
            await super().send_packed_command(*arguments, **named)
        except RuntimeError as error:
            if "the handler is closed" not in str(error):
                raise
            raise ConnectionError(str(error)) from error


def _pool(redis_url: str, pool_type: type[AsyncConnectionPool], arguments: dict[str, Any]) -> AsyncConnectionPool:
    once: dict[str, Any] = {"retry": AsyncRetry(NoBackoff(), 0), "protocol": 2}
    if not is_sentinel(redis_url):
        return pool_type.from_url(redis_url, **arguments, **once)
    found = _sentinels(redis_url)
    at_sentinels = {**found.sentinel_arguments, **once}
    sentinel = AsyncSentinel(found.addresses, sentinel_kwargs=at_sentinels)  # type: ignore[no-untyped-call]
    # redis-py's own pool of such connections does not wait for one that is free; here it only knows the master.
    knows_master = SentinelConnectionPool(found.master, sentinel)  # type: ignore[no-untyped-call]
    return pool_type(
        connection_class=SentinelManagedSSLConnection if found.is_tls else SentinelManagedConnection,
        connection_pool=knows_master,
        **found.arguments,
        **arguments,
        **once,
    )


def _sentinels(url: str) -> _Sentinels:
    parts = urlsplit(url)
    account, _, hosts = parts.netloc.rpartition("@")
    scheme = parts.scheme.removesuffix(_SENTINEL_SUFFIX)
    account_and_options = f"{scheme}://{account}{'@' if account else ''}?{parts.query}"
    arguments = dict(parse_url(account_and_options))  # type: ignore[no-untyped-call]
    arguments.pop("connection_class", None)
    sentinel_arguments = {
        name: arguments.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in arguments
    }
    tls = {name: value for name, value in arguments.items() if name.startswith("ssl_")}
    sentinel_arguments |= {**tls, "ssl": scheme == "rediss"}
    sentinel_arguments |= {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS}
    master, _, database = parts.path.strip("/").partition("/")
    if not master or "/" in database:
        raise _Misnamed("must end with the name of the master, as in redis+sentinel://host1:26379/mymaster")
    if database:
        arguments["db"] = int(database)
    addresses = [_address(host) for host in hosts.split(",")]
    return _Sentinels(addresses, master, scheme == "rediss", arguments, sentinel_arguments)


def _address(host: str) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    if not parts.hostname:
        raise _Misnamed("must name each Sentinel, as in redis+sentinel://host1:26379,host2:26379/mymaster")
    return parts.hostname, parts.port or SENTINEL_PORT
