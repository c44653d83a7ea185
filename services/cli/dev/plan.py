"""Which parts a local system has, and what each is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from services.cli.dev.part import Part
from services.cli.dev.ports import HOST, PortChooser
from services.cli.dev.probes import http_readiness, redis_readiness
from services.cli.dev.redis_server import find_server, server_command
from services.cli.dev.secrets import Secrets
from services.cli.dev.state import DevState
from services.common.database_url import is_postgresql, sqlite_path

OWNER: Final = "db-updater"
METRICS_PORTS: Final = {"read": 9100, "write": 9101, OWNER: 9102}


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of the parts; 0 takes a free one. Redis takes a free one when its own is taken."""

    read: int = 8000
    write: int = 8001
    owner: int = 8002
    redis: int = 6379


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts by the stages of their start, and where they will be."""

    stages: tuple[tuple[Part, ...], ...]
    state: DevState


def make_plan(
    data_dir: Path,
    ports: Ports,
    *,
    redis_url: str | None,
    database_url: str | None,
    secrets: Secrets,
    log_level: str,
) -> Plan:
    """Choose ports and write down each part.

    A given ``redis_url`` is used instead of a Redis of our own, a given database instead of the one in the data.

    Raises CommandFailed for a taken port or when there is no Redis server to run.
    """
    stages: list[tuple[Part, ...]] = []
    chooser = PortChooser()
    if redis_url is None:
        redis_port = chooser.preferred(ports.redis)
        redis_url = f"redis://{HOST}:{redis_port}"
        command = server_command(find_server(), redis_port, data_dir / "redis")
        stages.append((Part("redis", command, redis_readiness(redis_url)),))
    database_url, volume_dir = _database(database_url, data_dir)
    state = DevState(
        redis_url=redis_url,
        read_url=_url(chooser.required(ports.read, "read", "--read-port")),
        write_url=_url(chooser.required(ports.write, "write", "--write-port")),
        owner_url=_url(chooser.required(ports.owner, OWNER, "--owner-port")),
        database_url=database_url,
        volume_dir=str(volume_dir.absolute()),
        auth_keys_file=str(secrets.auth_keys_file.absolute()),
        metrics_urls=_metrics_urls(ports, chooser),
        supervisor_pid=os.getpid(),
    )
    owner, read, write = _services(data_dir, state, secrets, log_level)
    return Plan((*stages, (owner,), (read, write)), state)


def _metrics_urls(ports: Ports, chooser: PortChooser) -> dict[str, str]:
    """The usual ports if they are free; a part on any free port takes any for its metrics, too."""
    asked = {"read": ports.read, "write": ports.write, OWNER: ports.owner}
    wanted = {name: METRICS_PORTS[name] if port else 0 for name, port in asked.items()}
    return {name: _url(chooser.preferred(port)) + "/metrics" for name, port in wanted.items()}


def _services(data_dir: Path, state: DevState, secrets: Secrets, log_level: str) -> tuple[Part, Part, Part]:
    """The owner, the read and the write service."""
    told_to_all = {
        "REDIS_URL": state.redis_url,
        "DATABASE_URL": state.database_url,
        "HOST": HOST,
        "LOG_LEVEL": log_level,
        "LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
    }
    keys = {"AUTH_KEYS_FILE": state.auth_keys_file}
    told_to_read = {"OWNER_URL": state.owner_url, "REPLICA_DIR": str(data_dir / "replica"), **keys}
    told_to_write = {"READ_SERVICE_URL": state.read_url, "EMAIL_HASH_KEY": secrets.email_hash_key, **keys}
    return (
        _service(OWNER, "services.db_updater", state.owner_url, state, told_to_all | {"VOLUME_DIR": state.volume_dir}),
        _service("read", "services.read", state.read_url, state, told_to_all | told_to_read),
        _service("write", "services.write", state.write_url, state, told_to_all | told_to_write),
    )


def _service(name: str, module: str, url: str, state: DevState, told: Mapping[str, str]) -> Part:
    ports = {"PORT": _port_of(url), "METRICS_PORT": _port_of(state.metrics_urls[name])}
    return Part(name, (sys.executable, "-m", module), http_readiness(url), {**told, **ports})


def _database(given_url: str | None, data_dir: Path) -> tuple[str, Path]:
    """The database, named so that the working directory does not matter, and where the owner's other files are."""
    if given_url and is_postgresql(given_url):
        return given_url, data_dir
    path = sqlite_path(given_url) if given_url else data_dir / "twitter.db"
    return str(path.absolute()), path.parent


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _port_of(url: str) -> str:
    return str(urlsplit(url).port)
