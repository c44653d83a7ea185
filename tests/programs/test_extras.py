"""Each service runs with its own extra alone: an image that installs no more has all it imports."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.process import REPOSITORY

IMPORT_ALL_WITHOUT: Final = """
import importlib, pkgutil, sys

package, *missing = sys.argv[1:]

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"{name} is not among the dependencies of {package}", name=name)

sys.meta_path.insert(0, Missing())
for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
    importlib.import_module(module.name)
"""


def closure(*wanted: Requirement) -> set[str]:
    """The distributions that installing the wanted ones brings, by normal name."""
    found: set[tuple[str, str]] = set()
    todo = [(canonicalize_name(each.name), extra) for each in wanted for extra in ("", *each.extras)]
    while todo:
        name, extra = node = todo.pop()
        if node in found:
            continue
        found.add(node)
        needs = [Requirement(text) for text in metadata.requires(name) or ()]
        todo += [
            (canonicalize_name(need.name), its_extra)
            for need in needs
            if need.marker is None or need.marker.evaluate({"extra": extra})
            for its_extra in ("", *need.extras)
        ]
    return {name for name, _ in found}


@pytest.mark.parametrize("service", ["read", "write", "db-updater", "cli"])
def test_a_service_imports_nothing_beyond_its_extra(service: str) -> None:
    """All its modules import while whatever its extra does not bring is missing."""
    extra = "operator" if service == "cli" else service
    allowed = closure(Requirement(f"twitter-clone[{extra}]"))
    missing = [
        module
        for module, owners in metadata.packages_distributions().items()
        if module != "services" and allowed.isdisjoint(map(canonicalize_name, owners))
    ]
    package = "services." + service.replace("-", "_")
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL_WITHOUT, package, *missing],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
