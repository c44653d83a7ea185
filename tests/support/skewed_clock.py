"""The wall clock of a single program, which a test sets: every program of a machine has its own then.

Works where the loader takes LD_PRELOAD and a C compiler is at hand, since Redis is no Python (skewed_clock.c).
"""

from __future__ import annotations

import mmap
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).with_suffix(".c")
_BYTES: Final = 8


class SkewedClock:
    """How far a program's wall clock is off, now and after it is started again.

    ``environment`` is what the program is started with.
    """

    def __init__(self, library: Path, path: Path) -> None:
        path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._skew = mmap.mmap(file.fileno(), _BYTES)
        self.environment: Mapping[str, str] = {"LD_PRELOAD": str(library), "SKEW_FILE": str(path)}
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        """How far it is ahead."""
        return self._seconds

    @seconds.setter
    def seconds(self, seconds: float) -> None:
        self._seconds = seconds
        self._skew[:] = round(seconds * 1e9).to_bytes(_BYTES, sys.byteorder, signed=True)


def build_clock_library(directory: Path) -> Path | None:
    """The library that SkewedClock needs, made in this directory; None where that cannot be."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    library = directory / "skewed_clock.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, _SOURCE, "-ldl"], check=True)
    return library
