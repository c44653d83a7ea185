"""A whole running system of a test's own: Redis, one db-updater, any number of readers and writers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from services.common.database import Database
from tests.support.databases import READ_STORE, database_in, database_url
from tests.support.process import Program, ServiceProcess
from tests.support.redis_server import RedisServer
from tests.support.wait import PATIENCE_SECONDS, eventually

EMAIL_HASH_KEY: Final = "a key for tests, not secret"


class System:
    """Everything on free ports, all files below ``directory``. Use as a context manager.

    ``environment`` reaches every service, each of which may take ``start_seconds`` to start. The parts are ``redis``,
    ``owner``, ``readers`` and ``writers``, each with ``kill``, ``pause``, ``restart`` and so on; ``read`` and ``write``
    are clients of the first reader and writer.
    """

    def __init__(
        self,
        directory: Path,
        *,
        readers: int = 1,
        writers: int = 1,
        environment: Mapping[str, str] | None = None,
        start_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.directory = directory
        self._start_seconds = start_seconds
        self.redis = RedisServer(directory / "redis")
        self._environment = {"REDIS_URL": self.redis.url, "LOG_FORMAT": "json", **(environment or {})}
        self.owner = self.new_owner("owner")
        self.readers = [self.new_reader(f"reader-{number}") for number in range(1, readers + 1)]
        self.writers = [self.new_writer(f"writer-{number}") for number in range(1, writers + 1)]

    @property
    def owner_directory(self) -> Path:
        """Where the owner's files are."""
        return self.directory / "owner"

    @property
    def database(self) -> Database:
        """The owner's database."""
        return database_in(self.owner_directory)

    @property
    def programs(self) -> list[Program]:
        """All of it, each behind what it needs."""
        return [self.redis, *self._services()]

    @property
    def read(self) -> httpx.Client:
        """A client of the first reader."""
        return self.readers[0].http

    @property
    def write(self) -> httpx.Client:
        """A client of the first writer."""
        return self.writers[0].http

    def new_owner(self, name: str) -> ServiceProcess:
        """A db-updater on the database of this system, not started; there may be only one."""
        own = {"DATABASE_URL": database_url(self.owner_directory), "VOLUME_DIR": str(self.owner_directory)}
        return self._service(name, "services.db_updater", own)

    def new_reader(self, name: str, environment: Mapping[str, str] | None = None) -> ServiceProcess:
        """One more read service, not started; append it to ``readers`` to have it waited for and closed."""
        directory = self.directory / name
        own = {
            "READ_STORE": READ_STORE,
            "OWNER_URL": self.owner.url,
            "REPLICA_DIR": str(directory / "replica"),
            "DATABASE_URL": database_url(self.owner_directory),
            **(environment or {}),
        }
        return self._service(name, "services.read", own)

    def new_writer(self, name: str) -> ServiceProcess:
        """One more write service, not started; append it to ``writers`` to have it closed."""
        own = {"READ_SERVICE_URL": self.readers[0].url, "EMAIL_HASH_KEY": EMAIL_HASH_KEY}
        return self._service(name, "services.write", own)

    def __enter__(self) -> Self:
        try:
            self.start_log()
            for service in self._services():
                service.start()
            for service in self._services():
                service.wait_ready(self._start_seconds)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start_log(self) -> None:
        """Start what holds the log."""
        self.redis.start()

    def close(self) -> None:
        """Kill everything; to stop gracefully is a test's own story."""
        for program in reversed(self.programs):
            program.close()

    def create_user(self, username: str, email: str | None = None) -> httpx.Response:
        """POST /users, answered 201."""
        return self._create("/users", {"username": username, "email": email or f"{username}@example.com"})

    def create_tweet(self, user_id: int, content: str) -> httpx.Response:
        """POST /tweets, answered 201."""
        return self._create("/tweets", {"user_id": user_id, "content": content})

    def positions(self) -> dict[str, int]:
        """How far each running follower of the log has applied it, by name."""
        owner = (
            {"owner": int(self.owner.http.get("/internal/position").json()["position"])}
            if self.owner.is_running
            else {}
        )
        readers = {
            reader.name: int(reader.http.get("/").headers["X-Log-Position"])
            for reader in self.readers
            if reader.is_running
        }
        return owner | readers

    def wait_until_applied(self, position: int, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until every running follower, the owner too, has applied the log up to ``position``."""
        eventually(
            lambda: all(applied >= position for applied in self.positions().values()),
            timeout_seconds,
            lambda: f"waiting for {position}, applied: {self.positions()}",
        )

    def _services(self) -> Iterator[ServiceProcess]:
        yield self.owner
        yield from self.readers
        yield from self.writers

    def _service(self, name: str, module: str, own: Mapping[str, str]) -> ServiceProcess:
        return ServiceProcess(name, module, self.directory / name, {**self._environment, **own})

    def _create(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        response = self.write.post(path, json=body)
        assert response.status_code == httpx.codes.CREATED, f"POST {path}: {response.status_code} {response.text}"
        return response
