"""Ports of this machine: which are free, and what to say when one is not."""

from __future__ import annotations

import socket
from typing import Final

from services.cli.errors import CommandFailed

HOST: Final = "127.0.0.1"


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


def required(port: int, part: str, option: str) -> int:
    """The port itself, or for 0 any free one. Raises CommandFailed when it is taken."""
    if port == 0:
        return free_port()
    if not is_free(port):
        raise CommandFailed(
            f"port {port} ({part}) is in use: stop what listens there (`lsof -i :{port}` names it), "
            f"or choose another with {option} (0 takes any free one)"
        )
    return port


def preferred(port: int) -> int:
    """The port when it is free, else any free one; 0 asks for any."""
    return port if port and is_free(port) else free_port()


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
