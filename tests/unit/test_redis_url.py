"""Where a Redis URL leads."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import ConnectionPool
from redis.asyncio.sentinel import SentinelManagedSSLConnection

from services.common.log.redis_url import check_redis_url, connection_pool, redis_client, without_password

PLAIN = "redis+sentinel://one:26380,two/mymaster"
WHOLE = "rediss+sentinel://me:p%40ss@one,[::1]:7/mymaster/3?sentinel_password=other&ssl_ca_certs=/ca.pem"


def sentinels_of(url: str) -> list[dict[str, Any]]:
    """How the Sentinels of a URL are connected to."""
    pool: Any = redis_client(url, 1.0).connection_pool
    return [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]


@pytest.mark.parametrize("url", ["redis://one", "rediss://one:6380/2", "unix:///socket", PLAIN, WHOLE])
def test_urls_of_all_kinds(url: str) -> None:
    """They come back as they are, and both kinds of client take them."""
    assert check_redis_url(url) == url
    redis_client(url, 1.0).close()
    connection_pool(url, ConnectionPool)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("one:6379", "must look like redis://"),
        ("redis+sentinel://one:26379", "the name of the master"),
        ("redis+sentinel://one/master/0/1", "the name of the master"),
        ("redis+sentinel:///mymaster", "name each Sentinel"),
        ("redis+sentinel://one,/mymaster", "name each Sentinel"),
        ("redis+sentinel://one:port/mymaster", "must look like redis://"),
        ("redis+sentinel://one/mymaster/zero", "must look like redis://"),
        ("redis://one:port", "must look like redis://"),
        ("redis://one:99999", "must look like redis://"),
        ("redis://one/zero", "must look like redis://"),
    ],
)
def test_urls_that_lead_nowhere(url: str, problem: str) -> None:
    """They are refused at the start."""
    with pytest.raises(ValueError, match=problem):
        check_redis_url(url)


@pytest.mark.parametrize("sign", ["/", "#", "?", "["])
@pytest.mark.parametrize("form", ["redis://:{}@one", "redis://me:12{}@one/3", "redis+sentinel://:{}@one,two/mymaster"])
def test_a_password_that_is_not_encoded_is_refused_and_not_quoted(form: str, sign: str) -> None:
    """A part of it would be taken for a port, and be in the message, or for a host, and be asked for in the DNS."""
    with pytest.raises(ValueError, match="must look like") as refused:
        check_redis_url(form.format(f"sec{sign}ret"))
    assert "sec" not in str(refused.value)


def test_every_sentinel_is_asked() -> None:
    """The port is theirs unless it is named."""
    assert [(found["host"], found["port"]) for found in sentinels_of(PLAIN)] == [("one", 26380), ("two", 26379)]


def test_passwords_and_encryption_reach_whom_they_are_for() -> None:
    """The URL's own account is Redis's; all connections are encrypted."""
    master = redis_client(WHOLE, 1.0).connection_pool.connection_kwargs
    assert (master["username"], master["password"], master["db"]) == ("me", "p@ss", 3)
    for sentinel in sentinels_of(WHOLE):
        assert (sentinel.get("username"), sentinel["password"], sentinel["ssl_ca_certs"]) == (None, "other", "/ca.pem")
    pool = connection_pool(WHOLE, ConnectionPool)
    assert issubclass(pool.connection_class, SentinelManagedSSLConnection)
    assert pool.connection_kwargs["password"] == "p@ss"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://one:6379/1", "redis://one:6379/1"),
        ("redis://:p%40ss@one", "redis://one"),
        ("redis://one?password=p", "redis://one"),
        (WHOLE, "rediss+sentinel://one,[::1]:7/mymaster/3"),
    ],
)
def test_a_url_is_shown_without_its_passwords(url: str, shown: str) -> None:
    """On a terminal whose window is shared, and in its history."""
    assert without_password(url) == shown
