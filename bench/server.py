"""Servers that the system is compared with."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.machine import SERVER_CORE, pin
from tests.support.ports import HOST, free_port
from tests.support.process import REPOSITORY, Program
from tests.support.wait import eventually


class Server(Program):
    """A baseline, ``python -m bench.baselines.X``, told its PORT; ``url`` is where it is."""

    def __init__(self, module: str, directory: Path, environment: Mapping[str, str]) -> None:
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        told = {"PYTHONPATH": str(REPOSITORY), "PORT": str(port), **environment}
        super().__init__(module, [sys.executable, "-m", f"bench.baselines.{module}"], directory, told)

    def wait_ready(self, path: str = "/") -> None:
        """Wait until it answers anything."""
        eventually(lambda: self._answers(path), describe=lambda: f"{self.name}:\n{self.log_tail}")

    def _answers(self, path: str) -> bool:
        assert self.is_running, f"{self.name} ended:\n{self.log_tail}"
        try:
            httpx.get(f"{self.url}{path}", trust_env=False)
        except httpx.TransportError:
            return False
        return True


@contextmanager
def serving(module: str, directory: Path, **environment: str) -> Iterator[Server]:
    """A baseline on the server's core."""
    server = Server(module, directory, environment)
    try:
        server.start()
        server.wait_ready()
        pin(server.pid, SERVER_CORE)
        yield server
    finally:
        server.close()
