"""A real Redis (the embedded Valkey) of a test's own, run as ``twitter dev`` runs it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from services.cli.dev.redis_server import find_server, server_command
from tests.support.ports import HOST, free_port
from tests.support.process import Program
from tests.support.wait import eventually

_JUNK: Final = "junk"
_JUNK_BYTES: Final = 8 * 2**20


class RedisServer(Program):
    """A server with a fixed port and data directory. An acknowledged write is in its append-only file.

    ``kill`` then ``start`` brings it back with what it had fsynced; ``pause`` stalls it with connections open.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        super().__init__("redis", server_command(find_server(), self.port, directory), directory, {})
        self.url = f"redis://{HOST}:{self.port}"

    def client(self, timeout_seconds: float = 2) -> Redis:
        """A client that tries once."""
        return Redis.from_url(self.url, socket_timeout=timeout_seconds, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        """Start it and wait until it has loaded its data."""
        super().start()
        eventually(self._answers, describe=lambda: f"redis at {self.url}:\n{self.log_tail}")

    def restart(self) -> None:
        """Stop it cleanly if it runs, and start it with its data."""
        if self.is_running:
            self.terminate()
        self.start()

    def copy_data(self, target: Path) -> None:
        """Copy what it has on disk, while nobody writes."""
        shutil.copytree(self.directory / "appendonlydir", target)

    def come_back_with(self, source: Path | None) -> None:
        """Let a server that does not run start with these files, or with none, instead of its own."""
        assert not self.is_running
        shutil.rmtree(self.directory / "appendonlydir")
        if source is not None:
            shutil.copytree(source, self.directory / "appendonlydir")
        self.start()

    def flush(self) -> None:
        """Forget every key and every script."""
        with self.client() as client:
            client.flushall()
            client.script_flush()

    def fill(self) -> None:
        """Leave no memory for another write, and evict all that may be evicted."""
        with self.client() as client:
            bytes_before = int(client.info("memory")["used_memory"])
            client.set(_JUNK, bytes(_JUNK_BYTES))
            client.config_set("maxmemory", bytes_before + _JUNK_BYTES // 2)
            eventually(lambda: not client.info("keyspace")["db0"]["expires"], describe=lambda: client.info("keyspace"))

    def make_room(self) -> None:
        """Give back half of what ``fill`` has taken."""
        with self.client() as client:
            client.delete(_JUNK)

    def _answers(self) -> bool:
        assert self.is_running, f"redis ended:\n{self.log_tail}"
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisConnectionError:  # not listening yet, or loading
            return False
