"""Ports that stay ours while a server on them is down."""

from __future__ import annotations

import random
import socket
from typing import Final

HOST: Final = "127.0.0.1"
# Below the ports that Linux and macOS give to outgoing connections: one of those could take the port of a server
# that a test has just killed, or a client that keeps trying to reach that server could even connect to itself.
PORTS: Final = range(10_000, 32_000)

# Not the global generator: pytest-randomly seeds that one alike in every worker.
_random = random.SystemRandom()


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    while not _is_free(port := _random.choice(PORTS)):
        pass
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
