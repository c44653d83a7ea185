"""The lock files say the same as pyproject.toml. When one of these fails: `make lock`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from packaging.requirements import Requirement

REPOSITORY: Final = Path(__file__).parents[2]
RUNTIME, DEVELOPMENT = "requirements.txt", "requirements-dev.txt"
MACHINES: Final = [
    {
        "python_version": version,
        "python_full_version": f"{version}.7",
        "sys_platform": system,
        "platform_machine": machine,
    }
    for version in ("3.11", "3.13")
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
]


class Pin(NamedTuple):
    """One package of a lock file, and what its files must hash to."""

    requirement: Requirement
    hashes: list[str]


def pins(lock: str) -> list[Pin]:
    """What a lock file holds."""
    text = re.sub(r"#.*", "", (REPOSITORY / lock).read_text()).replace("\\\n", " ")
    parts = [line.split("--hash=") for line in text.splitlines() if line.strip()]
    return [Pin(Requirement(name), [each.strip() for each in hashes]) for name, *hashes in parts]


def locked_versions(lock: str, machine: dict[str, str]) -> dict[str, str]:
    """The versions, by name, that a lock file installs on a machine."""
    requirements = [pin.requirement for pin in pins(lock)]
    return {
        requirement.name: str(next(iter(requirement.specifier)).version)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(machine)
    }


def declared(extra: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for, for the project with an extra and the extras that it includes."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    todo = [*project["dependencies"], *project["optional-dependencies"][extra]]
    while todo:
        requirement = Requirement(todo.pop())
        if requirement.name == project["name"]:
            todo += [each for included in requirement.extras for each in project["optional-dependencies"][included]]
        else:
            yield requirement


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: "-".join(list(machine.values())[1:]))
@pytest.mark.parametrize(("lock", "extra"), [(RUNTIME, "cli"), (RUNTIME, "postgresql"), (DEVELOPMENT, "dev")])
def test_the_lock_has_what_is_declared_and_only_where_it_is(lock: str, extra: str, machine: dict[str, str]) -> None:
    """A package with a marker (pysqlite3 has no wheel for every machine) is locked with the same marker."""
    versions = locked_versions(lock, machine)
    for requirement in declared(extra):
        if requirement.marker is None or requirement.marker.evaluate(machine):
            assert requirement.specifier.contains(versions[requirement.name]), requirement
        else:
            assert requirement.name not in versions


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: "-".join(list(machine.values())[1:]))
def test_the_tests_run_on_the_versions_that_are_shipped(machine: dict[str, str]) -> None:
    """The development lock has all of the runtime lock, at the same versions."""
    assert locked_versions(RUNTIME, machine).items() <= locked_versions(DEVELOPMENT, machine).items()


@pytest.mark.parametrize("lock", [RUNTIME, DEVELOPMENT])
def test_every_package_is_pinned_with_hashes_and_no_address(lock: str) -> None:
    """What is installed is what was locked, wherever it is downloaded from."""
    assert "://" not in (REPOSITORY / lock).read_text()
    for requirement, hashes in pins(lock):
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), requirement
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes), requirement
        assert hashes, requirement


def test_the_build_backend_is_locked_too() -> None:
    """script/setup installs the project without a build environment of its own."""
    build = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["build-system"]["requires"]
    versions = locked_versions(DEVELOPMENT, MACHINES[0])
    assert all(Requirement(each).specifier.contains(versions[Requirement(each).name]) for each in build)
