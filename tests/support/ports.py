"""Ports that stay ours while a server on them is down."""

from __future__ import annotations

import os
import random
import socket
from typing import Final

HOST: Final = "127.0.0.1"
# Below the ports that Linux and macOS give to outgoing connections: one of those could take the port of a server
# that a test has just killed, or a client that keeps trying to reach that server could even connect to itself.
PORTS: Final = range(10_000, 32_000)

# Not the global generator: pytest-randomly seeds that one alike in every worker.
_random = random.SystemRandom()
# A port is chosen well before its server listens on it, so the workers of a run choose from ports of their own.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_given: set[int] = set()


def free_port() -> int:
    """A port of this machine that nobody uses now, and that this test run has not given to anybody."""
    ours = PORTS[_worker::_workers]
    while (port := _random.choice(ours)) in _given or not _is_free(port):
        pass
    _given.add(port)
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
