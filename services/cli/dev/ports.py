"""Ports of this machine: which are free, and what to say when one is not."""

from __future__ import annotations

import random
import socket
from typing import Final

from services.cli.errors import CommandFailed

HOST: Final = "127.0.0.1"
# Below the ports that Linux and macOS give to outgoing connections: one of those could take the port of a part that
# has just died, before it is started again.
ANY: Final = range(10_000, 32_000)


def is_free(port: int) -> bool:
    """Whether nothing listens on the port and one may bind it."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        if probe.connect_ex((HOST, port)) == 0:
            return False  # macOS lets one bind 127.0.0.1 beside somebody who listens on every address
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class PortChooser:
    """Gives the parts of one system their ports, none to two of them: nobody listens yet on a port just given."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def required(self, port: int, part: str, option: str) -> int:
        """The port itself, or for 0 any free one. Raises CommandFailed when it is taken."""
        if port == 0:
            return self._any()
        if not self._is_left(port):
            raise CommandFailed(
                f"port {port} ({part}) is in use: stop what listens there (`lsof -i :{port}` names it), "
                f"or choose another with {option} (0 takes any free one)"
            )
        return self._give(port)

    def preferred(self, port: int) -> int:
        """The port when it is free, else any free one; 0 asks for any."""
        return self._give(port) if port and self._is_left(port) else self._any()

    def _any(self) -> int:
        return self._give(next(port for port in random.sample(ANY, len(ANY)) if self._is_left(port)))

    def _is_left(self, port: int) -> bool:
        return port not in self._given and is_free(port)

    def _give(self, port: int) -> int:
        self._given.add(port)
        return port
