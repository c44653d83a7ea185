"""docker-compose.yml says only what is known here, and all that it names exists: without a Docker to read it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

import pytest
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict

from services.common.settings import ServiceSettings
from services.db_updater.settings import OwnerSettings
from services.read.settings import ReadSettings
from services.write.settings import WriteSettings
from tests.support.process import REPOSITORY

SETTINGS: Final[dict[str, type[ServiceSettings]]] = {
    "read": ReadSettings,
    "write": WriteSettings,
    "db-updater": OwnerSettings,
}
SECRET: Final = "0123456789abcdef"
EDGE_PORT: Final = 8080
REDIS_PORT: Final = 6379


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _exists(name: object) -> object:
    assert isinstance(name, str)
    assert (REPOSITORY / name).exists(), f"there is no {name}"
    return name


Existing = Annotated[str, BeforeValidator(_exists)]


class _Build(_Strict):
    context: Literal["."]
    dockerfile: Existing
    network: str


class _Need(_Strict):
    condition: Literal["service_healthy", "service_completed_successfully"]


class _HealthCheck(_Strict):
    test: list[str]
    interval: str
    timeout: str
    start_period: str = "0s"


class _Service(_Strict):
    """The keys that are used, all of which docker-compose 1.29 knows."""

    image: str
    build: _Build | None = None
    user: str = ""
    entrypoint: list[str] = []
    command: list[str] = []
    environment: dict[str, str] = {}
    ports: list[str] = []
    volumes: list[str] = []
    depends_on: dict[str, _Need] = {}
    healthcheck: _HealthCheck | None = None
    read_only: bool
    tmpfs: list[str]
    cap_drop: list[str]
    security_opt: list[str]
    restart: Literal["no", "unless-stopped"]
    stop_grace_period: str

    @property
    def published(self) -> set[str]:
        """The ports on this machine, and in the container, which are the same."""
        pairs = [port.rsplit(":", 2)[1:] for port in self.ports]
        assert all(outside == inside for outside, inside in pairs), self.ports
        return {outside for outside, _ in pairs}


class _File(_Strict):
    services: dict[str, _Service]
    volumes: dict[str, None]


@pytest.fixture(scope="module")
def compose() -> _File:
    """The file, without what is only there to be merged."""
    document: dict[str, Any] = yaml.safe_load(Path(REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
    return _File.model_validate({key: value for key, value in document.items() if not key.startswith("x-")})


def test_what_a_service_waits_for_and_mounts_is_there(compose: _File) -> None:
    """What has to be healthy has a check, what has to end is not started again, and each volume is somebody's."""
    mounted = {volume.split(":")[0] for service in compose.services.values() for volume in service.volumes}
    assert mounted == set(compose.volumes)
    for service in compose.services.values():
        for name, need in service.depends_on.items():
            if need.condition == "service_healthy":
                assert compose.services[name].healthcheck, name
            else:
                assert compose.services[name].restart == "no", name


@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_is_told_only_what_its_settings_take(compose: _File, name: str) -> None:
    """Each variable is a field of the settings class, and the values are ones it accepts."""
    told = {key.lower(): _by_default(value) for key, value in compose.services[name].environment.items()}
    assert set(told) <= set(SETTINGS[name].model_fields)
    SETTINGS[name].model_validate({key: value for key, value in told.items() if value})


def test_whoever_is_asked_listens_there(compose: _File) -> None:
    """Addresses in settings, health checks and published ports mean the port of the service."""
    ports = {name: settings.model_fields["port"].default for name, settings in SETTINGS.items()}
    ports |= {"edge": EDGE_PORT, "redis": REDIS_PORT}
    for name, service in compose.services.items():
        urls = [urlsplit(value) for key, value in service.environment.items() if key.endswith("_URL")]
        assert all(url.port == ports[url.hostname or ""] for url in urls), name
        assert service.published <= {str(ports.get(name))}, name
        if name in SETTINGS:
            assert service.healthcheck is not None
            assert f"http://localhost:{ports[name]}/healthz/ready" in service.healthcheck.test[-1]


def _by_default(value: str) -> str:
    """The value where no variable is set that it names, and where those that must be set are."""
    return re.sub(r"\$\{\w+:([-?])([^}]*)\}", lambda found: found[2] if found[1] == "-" else SECRET, value)
