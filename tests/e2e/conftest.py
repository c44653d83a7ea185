"""One release for all tests of the cluster: each leaves it as it found it, with every pod ready."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from kubernetes import client as kubernetes

from tests.e2e.figures import Figures
from tests.e2e.release import Release, load_configuration

NOTES = pytest.StashKey[list[str]]()
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pods take their time to start and to stop."""
    for item in items:
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
def installed(make_namespace: Callable[..., str]) -> Release:
    """The umbrella with the values of the tests."""
    release = Release(make_namespace())
    release.apply("install")
    return release


@pytest.fixture
def release(installed: Release) -> Release:
    """The release, all of it ready."""
    installed.wait_ready()
    return installed


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Notes something measured, to be printed when all tests are over."""
    notes = request.config.stash.setdefault(NOTES, [])
    return lambda text: notes.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured."""
    terminalreporter.section("figures")
    for note in config.stash.get(NOTES, []):
        terminalreporter.write_line(note)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """End the report of a failed test with the events and logs of its release."""
    report = yield
    release = getattr(item, "funcargs", {}).get("installed")
    if report.failed and isinstance(release, Release):
        report.sections.append(("events and logs", release.describe()))
    return report
