"""The images: small, without a compiler, and gone in time when they are told to stop."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from services.common.ids import position_at
from tests.e2e.figures import Figures
from tests.e2e.wait import eventually
from tests.support.ports import HOST, free_port

BASES = {
    "read-service": "python:3.13-slim",
    "write-service": "python:3.13-slim",
    "db-updater": "python:3.13-slim",
    "edge": "nginxinc/nginx-unprivileged:stable",
}
MEGABYTE = 10**6
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "ld", "as", "make", "go", "rustc", "uv")


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {arguments}: {done.stderr}"
    return done.stdout


def _image(name: str) -> str:
    return f"{os.environ['REGISTRY']}/{name}:{os.environ['E2E_TAG']}"


def _look_at(image: str) -> dict[str, Any]:
    [found] = json.loads(_docker("image", "inspect", image))
    return dict(found)


@pytest.mark.parametrize("name", BASES)
def test_an_image_is_small_and_runs_as_nobody(name: str, figures: Figures) -> None:
    """At most 120 MB above its base."""
    image, base = _look_at(_image(name)), _look_at(BASES[name])
    added = image["Size"] - base["Size"]
    figures(f"{image['Size'] / MEGABYTE:.0f} MB, {added / MEGABYTE:.0f} MB above its base")
    assert added < 120 * MEGABYTE
    assert image["Config"]["User"] == ("101:101" if name == "edge" else "10001:10001")


@pytest.mark.parametrize("name", BASES)
def test_an_image_holds_no_compiler(name: str) -> None:
    """What was needed to build it stayed behind."""
    look = f"for tool in {' '.join(COMPILERS)}; do command -v $tool; done; true"
    found = _docker("run", "--rm", "--network=none", "--read-only", "--entrypoint=sh", _image(name), "-c", look)
    assert found == ""


@pytest.fixture
def run_container() -> Iterator[Callable[..., str]]:
    """Start a container on this machine's network with a read-only root; its id. Removed at the end."""
    containers: list[str] = []

    def run(image: str, *command: str, **environment: str) -> str:
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        limits = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--network=host"]
        containers.append(_docker("run", "--detach", *limits, *variables, image, *command).strip())
        return containers[-1]

    yield run
    for container in containers:
        _docker("rm", "--force", "--volumes", container)


def test_a_service_finishes_its_requests_and_stops_in_time(run_container: Callable[..., str]) -> None:
    """Each stops on SIGTERM within ten seconds, with exit code 0; a read that waits is answered."""
    redis, owner, read, write = (free_port() for _ in range(4))
    run_container("redis:8", "redis-server", f"--port {redis}", f"--bind {HOST}")
    common = {"REDIS_URL": f"redis://{HOST}:{redis}", "HOST": HOST, "METRICS_PORT": "0"}
    reads = run_container(
        _image("read-service"),
        **common,
        PORT=str(read),
        OWNER_URL=f"http://{HOST}:{owner}",
        MIN_POSITION_WAIT_SECONDS="3",
    )
    owns = run_container(_image("db-updater"), **common, PORT=str(owner))
    writes = run_container(
        _image("write-service"),
        **common,
        PORT=str(write),
        READ_SERVICE_URL=f"http://{HOST}:{read}",
        EMAIL_HASH_KEY="0123456789abcdef",
    )
    for port in (owner, read, write):
        eventually(partial(_is_ready, port), describe=lambda: [_logs(one) for one in (reads, owns, writes)])

    soon = position_at(int(time.time() * 1000) + 30_000)
    with socket.create_connection((HOST, read), timeout=20) as connection:
        connection.sendall(f"GET /tweets/4096 HTTP/1.1\r\nHost: x\r\nX-Min-Position: {soon}\r\n\r\n".encode())
        # One event loop reads both: when this is answered, the first one waits.
        assert _get(read, "/healthz/live").status_code == httpx.codes.OK
        for container in (reads, writes, owns):
            _docker("stop", "--time=10", container)
            [state] = json.loads(_docker("inspect", container))
            assert state["State"]["ExitCode"] == 0, _logs(container)
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"position_not_reached" in answer


def _logs(container: str) -> str:
    done = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _is_ready(port: int) -> bool:
    try:
        return _get(port, "/healthz/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _get(port: int, path: str) -> httpx.Response:
    return httpx.get(f"http://{HOST}:{port}{path}", timeout=20, trust_env=False)
