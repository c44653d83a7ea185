"""Servers that the system is compared with."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.machine import SERVER_CORE, pin
from tests.support.ports import HOST, free_port
from tests.support.process import REPOSITORY, Program
from tests.support.wait import eventually


class Server(Program):
    """A baseline: a Python program that is told its PORT, which may also stand in its arguments as ``{port}``."""

    def __init__(
        self,
        name: str,
        directory: Path,
        environment: Mapping[str, str],
        arguments: Sequence[str],
        python: str = sys.executable,
    ) -> None:
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        told = {"PYTHONPATH": str(REPOSITORY), "PORT": str(port), **environment}
        command = [python, "-m", *(argument.format(port=port) for argument in arguments)]
        super().__init__(name, command, directory, told)

    def wait_ready(self) -> None:
        """Wait until it answers anything."""
        eventually(self._answers, describe=lambda: f"{self.name}:\n{self.log_tail}")

    def _answers(self) -> bool:
        assert self.is_running, f"{self.name} ended:\n{self.log_tail}"
        try:
            httpx.get(self.url, trust_env=False)
        except httpx.TransportError:
            return False
        return True


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """A server on the server's core."""
    try:
        server.start()
        server.wait_ready()
        pin(server.pid, SERVER_CORE)
        yield server
    finally:
        server.close()


def bare(directory: Path, body_bytes: int) -> Server:
    """The server that does nothing, with answers of this size."""
    return Server("bare", directory, {"BODY_BYTES": str(body_bytes)}, ["bench.baselines.bare"])
