"""The machine: its cores, who runs on which, and what it says of itself."""

from __future__ import annotations

import ctypes.util
import os
import platform
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from services.cli.dev.redis_server import find_server
from services.common.database import check_sqlite, sqlite_library
from tests.support.process import REPOSITORY

CORES: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = CORES[0]
"""The core of the process that is measured, alone."""
LOAD_CORE: Final = CORES[-1]
"""The core of the generator, of Redis and of whatever else runs."""


class Machine(msgspec.Struct, frozen=True):
    """What a figure depends on that is not in the repository."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    sqlite: str
    valkey: str
    wrk: str
    commit: str
    load_average: float


def describe() -> Machine:
    """This machine now; ``load_average`` is of the last minute."""
    return Machine(
        cpu=_field("/proc/cpuinfo", "model name"),
        cores=len(CORES),
        memory_gib=round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        sqlite=f"{check_sqlite()} ({sqlite_library().__name__})",
        valkey=f"{_first_line(str(find_server()), '--version').partition(' sha')[0]} with {jemalloc()}",
        wrk=_first_line("wrk", "-v").partition(" [")[0],
        commit=_first_line("git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"),
        load_average=round(os.getloadavg()[0], 2),
    )


def jemalloc() -> str:
    """The allocator that Redis's images and packages are built with, by which the embedded server is one of them.

    With the C library's it takes a quarter longer for the same entries. Raises FileNotFoundError where it is missing.
    """
    found = ctypes.util.find_library("jemalloc")
    if found is None:
        raise FileNotFoundError(
            "jemalloc is needed, as Redis has it in production (on Debian: apt install libjemalloc2)"
        )
    return found


def pin(pid: int, core: int) -> None:
    """Let a process run on this core only, with all threads that it has and will have."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


def _field(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")


def _first_line(*command: str) -> str:
    # wrk answers -v with its version and exit code 1.
    answered = subprocess.run(command, capture_output=True, text=True, check=False)
    return (answered.stdout or answered.stderr).partition("\n")[0]
