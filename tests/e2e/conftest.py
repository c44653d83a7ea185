"""One release for all tests of the cluster: each leaves it as it found it, with every pod ready."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from kubernetes import client as kubernetes

from tests.e2e.figures import Figures
from tests.e2e.load import Load
from tests.e2e.prometheus import Prometheus
from tests.e2e.release import Release, load_configuration
from tests.e2e.wait import eventually

NOTES = pytest.StashKey[list[str]]()
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pods take their time to start and to stop; torture says itself how long it takes."""
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(420))


@pytest.fixture(scope="session")
def url() -> str:
    """Where the Ingress answers."""
    return os.environ["E2E_URL"]


@pytest.fixture(scope="session")
def make_namespace() -> Iterator[Callable[..., str]]:
    """Namespaces of this run's own, which let only hardened pods in; they are deleted with all that is in them."""
    load_configuration()
    core: Any = kubernetes.CoreV1Api()
    made: list[str] = []

    def make(**labels: str) -> str:
        name = f"e2e-{secrets.token_hex(4)}"
        core.create_namespace({"metadata": {"name": name, "labels": RESTRICTED | labels}})
        made.append(name)
        return name

    yield make
    for name in made:
        core.delete_namespace(name)


@pytest.fixture(scope="session")
def installed(make_namespace: Callable[..., str], url: str, request: pytest.FixtureRequest) -> Release:
    """The umbrella with the values of the tests, and a tweet that was posted and read."""
    release = Release(make_namespace())
    started_at = time.monotonic()
    release.apply("install")
    with Load(url) as load:
        eventually(lambda: load.answered > 1, describe=lambda: load.report)
    seconds = time.monotonic() - started_at
    _notes(request.config).append(f"from the start of helm install until a tweet was read: {seconds:.0f} s")
    return release


@pytest.fixture
def release(installed: Release) -> Release:
    """The release, all of it ready."""
    installed.wait_ready()
    return installed


@pytest.fixture(scope="session")
def prometheus(
    installed: Release, make_namespace: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> Prometheus:
    """A Prometheus that watches the release."""
    started = Prometheus(installed, make_namespace(e2e="monitoring"))
    started.start(tmp_path_factory.mktemp("prometheus"))
    return started


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Notes something measured, to be printed when all tests are over."""
    return lambda text: _notes(request.config).append(f"{request.node.name}: {text}")


def _notes(config: pytest.Config) -> list[str]:
    return config.stash.setdefault(NOTES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured."""
    terminalreporter.section("figures")
    for note in _notes(config):
        terminalreporter.write_line(note)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """End the report of a failed test with the events and logs of its release."""
    report = yield
    release = getattr(item, "funcargs", {}).get("installed")
    if report.failed and isinstance(release, Release):
        report.sections.append(("events and logs", release.describe()))
    return report
