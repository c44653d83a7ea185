"""The fixtures that every kind of test shares, and what a report says of the machine and of failures.

``redis_server``, its ``log`` and ``system`` are shared within a test run's worker: leave them as you found them.
``fresh_redis`` and ``fresh_system`` are a test's own, to be killed and broken.
"""

from __future__ import annotations

import platform
import signal
import subprocess
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import hypothesis
import pytest

from services.cli.dev.redis_server import find_server
from services.common.database import check_sqlite, sqlite_library
from services.common.log.client import EventLog
from tests.support import databases, process
from tests.support.postgresql_server import PostgresqlServer, find_binaries
from tests.support.redis_server import RedisServer
from tests.support.system import System

# Each run tries the same examples, so that a failure in CI repeats anywhere; the time limit is pytest's.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

# Who is started in the background of a script ignores SIGINT, and so would all programs of the tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Say which versions the tests run on."""
    valkey = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return (
        f"Python {platform.python_version()}, SQLite {check_sqlite()} ({sqlite_library().__name__}), {valkey.strip()}"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the programs that the test ran have logged."""
    report = yield
    if report.failed:
        report.sections += [(f"log of {program.name}", program.log_tail) for program in process.started]
    if report.when == "teardown":
        process.started[:] = [program for program in process.started if program.is_running]
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio is the only event loop library in use."""
    return "asyncio"


@pytest.fixture(scope="session")
def _shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from _running_redis(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def redis_server(_shared_redis: RedisServer) -> RedisServer:
    """An empty Redis, shared by the tests one after another."""
    _shared_redis.flush()
    return _shared_redis


@pytest.fixture
def log(redis_server: RedisServer) -> Iterator[EventLog]:
    """An empty log, in the Redis that is shared."""
    with closing(EventLog(redis_server.url)) as client:
        yield client


@pytest.fixture
def fresh_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, to be killed, paused and restarted."""
    yield from _running_redis(tmp_path / "redis")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL, shared; each test makes a database of its own in it."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server is not installed here (on Debian: apt install postgresql)")
    server = PostgresqlServer(binaries)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session", autouse=True)
def _database(request: pytest.FixtureRequest) -> Iterator[None]:
    """With TEST_DATABASE=postgresql, all owners write PostgreSQL."""
    if databases.USES_POSTGRESQL:
        databases.servers.append(request.getfixturevalue("postgresql"))
    yield
    databases.servers.clear()


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole system, shared: other tests' users and tweets are there too. Break nothing."""
    with System(tmp_path_factory.mktemp("system")) as shared:
        yield shared


@pytest.fixture
def fresh_system(tmp_path: Path) -> Iterator[System]:
    """A whole system of the test's own with one reader and one writer, empty, to be broken."""
    with System(tmp_path) as own:
        yield own


def _running_redis(directory: Path) -> Iterator[RedisServer]:
    server = RedisServer(directory)
    try:
        server.start()
        yield server
    finally:
        server.close()
