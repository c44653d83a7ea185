"""Dockerfiles and docker-compose.yml: what they promise, as far as it shows without building them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from services.common.settings import ServiceSettings
from services.db_updater.settings import OwnerSettings
from services.read.settings import ReadSettings
from services.write.settings import WriteSettings
from tests.charts import tools
from tests.support.process import REPOSITORY

SERVICES: Final[dict[str, type[ServiceSettings]]] = {
    "read": ReadSettings,
    "write": WriteSettings,
    "db_updater": OwnerSettings,
}
COMPOSE = REPOSITORY / "docker-compose.yml"


def _instructions(service: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile with its arguments, lines joined; those of what is published."""
    text = (REPOSITORY / "services" / service / "Dockerfile").read_text()
    assert not text.startswith("# syntax="), "it would have the builder pull an image first"
    text, _, development = text.partition("FROM service AS development\n")
    assert development.endswith("\nFROM service\n"), "the last stage is the one that is built without being named"
    lines = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ").splitlines()
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines if line)]


def _compose() -> dict[str, Any]:
    compose: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return compose


@pytest.mark.parametrize("service", [*SERVICES, "edge"])
def test_an_image_starts_one_program_as_an_unprivileged_user(service: str) -> None:
    """As a number, which Kubernetes can check; without a shell, which would swallow the stop signal."""
    instructions = dict(_instructions(service))
    user, _, group = instructions["USER"].partition(":")
    assert int(user) == int(group) == (101 if service == "edge" else 10001)
    assert isinstance(json.loads(instructions["ENTRYPOINT"]), list)
    assert "CMD" not in instructions
    assert instructions["STOPSIGNAL"] == ("SIGQUIT" if service == "edge" else "SIGTERM")
    assert instructions["FROM"] == "${BASE_IMAGE} AS service"


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_one_service_and_its_own_dependencies(service: str) -> None:
    """From wheels, at the versions and hashes of the lock. Beside the owner, the command of who operates it."""
    instructions = _instructions(service)
    operators = ["services/cli"] if service == "db_updater" else []
    copied = [rest.split()[0] for name, rest in instructions if name == "COPY" and rest.startswith("services")]
    assert copied == ["services/__init__.py", "services/common", f"services/{service}", *operators]
    [install] = [rest for name, rest in instructions if name == "RUN" and "uv pip install" in rest]
    for option in ("--no-build ", "--require-hashes ", f"--extra {service.replace('_', '-')} ", "--constraints "):
        assert option in install
    assert ("--extra operator " in install) is bool(operators)
    assert json.loads(dict(instructions)["ENTRYPOINT"]) == ["python", "-m", f"services.{service}"]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_says_which_ports_it_listens_on(service: str) -> None:
    """Those of the program's defaults."""
    fields = SERVICES[service].model_fields
    assert dict(_instructions(service))["EXPOSE"] == f"{fields['port'].default} {fields['metrics_port'].default}"


def test_every_service_of_the_compose_file_is_hardened() -> None:
    """Read-only, without capabilities, nothing published to other machines unless asked for."""
    for name, service in _compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["tmpfs"] == ["/tmp"], name  # noqa: S108
        assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in service.get("ports", ())), name
        assert name == "redis" or service["build"]["network"] == "${BUILD_NETWORK:-default}", name


def test_the_compose_file_loads_and_asks_for_its_one_secret(tmp_path: Path) -> None:
    """docker-compose 1.29 is the oldest that must read it."""
    compose = [
        tools.find("docker-compose", is_optional=True),
        "--file",
        str(COMPOSE),
        "--project-directory",
        str(tmp_path),
        "config",
        "-q",
    ]
    environment = {"PATH": os.environ["PATH"]}
    refused = subprocess.run(compose, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "make one as the first lines of docker-compose.yml say" in refused.stderr
    subprocess.run(compose, env=environment | {"EMAIL_HASH_KEY": "0123456789abcdef"}, check=True)
