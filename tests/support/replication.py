"""A Redis with a replica, and a Sentinel that puts the replica in its place when it is gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from redis import Redis

from services.cli.dev.redis_server import find_server
from tests.support.ports import HOST, free_port
from tests.support.process import Program
from tests.support.redis_server import RedisServer
from tests.support.system import System
from tests.support.wait import eventually

MASTER_NAME: Final = "mymaster"
DOWN_AFTER_MS: Final = 3000
"""Longer than a busy machine keeps a new master from answering: the next in line would be the old one, without data."""


class Replica(RedisServer):
    """A copy of another server, as durable as that one. Call ``follow`` before it is started."""

    def follow(self, master: RedisServer) -> None:
        """Be the replica of a server."""
        self.command += ["--replicaof", HOST, str(master.port)]

    def wait_until_in_sync(self, master: RedisServer) -> None:
        """Wait until it has all that the other one has, and gets what comes."""

        def is_in_sync() -> bool:
            with master.client() as redis:
                return bool(redis.info("replication").get("slave0", {}).get("state") == "online")

        eventually(is_in_sync)

    def lag(self, master: RedisServer) -> None:
        """Get nothing more from the other one, not even what is on the way, until ``resume``."""
        self.pause()
        with master.client() as redis:
            redis.execute_command("CLIENT KILL TYPE replica")


class SentinelServer(Program):
    """One Sentinel, which decides alone."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._configuration = directory / "sentinel.conf"
        super().__init__("sentinel", [str(find_server()), str(self._configuration), "--sentinel"], directory, {})
        self.url = f"redis+sentinel://{HOST}:{self.port}/{MASTER_NAME}"

    def watch(self, master: RedisServer) -> None:
        """Start with this master, and wait until its replica is known."""
        self.directory.mkdir(parents=True)
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {self.directory}",
            f"sentinel monitor {MASTER_NAME} {HOST} {master.port} 1",
            f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER_NAME} 4000",
        ]
        self._configuration.write_text("\n".join(lines) + "\n")
        self.start()
        eventually(lambda: self._replicas() == 1, describe=lambda: self.log_tail)

    def master_port(self) -> int:
        """The port of the server that is the master now."""
        with self._client() as redis:
            _, port = redis.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER_NAME)
        return int(port)

    def _replicas(self) -> int:
        try:
            with self._client() as redis:
                return len(redis.execute_command("SENTINEL REPLICAS", MASTER_NAME))
        except OSError:
            return 0

    def _client(self) -> Redis:
        return Redis(host=HOST, port=self.port, socket_timeout=2)


class ReplicatedSystem(System):
    """A system that finds its Redis, which has a replica, through a Sentinel."""

    def __init__(self, directory: Path) -> None:
        self.replica = Replica(directory / "replica")
        self.sentinel = SentinelServer(directory / "sentinel")
        super().__init__(directory, environment={"REDIS_URL": self.sentinel.url})

    def start_log(self) -> None:
        """Start all three."""
        super().start_log()
        self.replica.follow(self.redis)
        self.replica.start()
        self.replica.wait_until_in_sync(self.redis)
        self.sentinel.watch(self.redis)

    def fail_over(self) -> None:
        """The master is gone (kill -9), and comes back as the replica of what was its own, without what it had."""
        self.redis.kill()
        self.replica.resume()
        eventually(lambda: self.sentinel.master_port() == self.replica.port, describe=lambda: self.sentinel.log_tail)
        shutil.rmtree(self.redis.directory / "appendonlydir")
        self.redis.command += ["--replicaof", HOST, str(self.replica.port)]
        self.redis.start()

    def close(self) -> None:
        """Kill everything."""
        super().close()
        self.sentinel.close()
        self.replica.close()
