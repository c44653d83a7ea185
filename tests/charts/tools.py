"""The programs these tests run."""

from __future__ import annotations

import os
import shutil

import pytest

# Where the test cluster of this project's developers keeps its programs.
EXTRA_DIRECTORIES = ("/var/lib/testcluster/bin", "/usr/sbin")


def find(name: str, *, is_optional: bool = False) -> str:
    """The path of a program: $HELM for helm, the PATH, some other places.

    Without it the test is skipped; in CI it fails, unless the program is optional.
    """
    places = os.pathsep.join((os.environ.get("PATH", ""), *EXTRA_DIRECTORIES))
    found = os.environ.get(name.upper()) or shutil.which(name, path=places)
    if found:
        return found
    if is_optional:
        pytest.skip(f"no {name} on the PATH")
    advice = f"no {name} on the PATH: tests/charts/get-tools DIRECTORY fetches it"
    if os.environ.get("CI"):
        pytest.fail(advice)
    pytest.skip(advice)
