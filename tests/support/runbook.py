"""The runbooks of docs/operations.md, run as they are written there.

A runbook is a block of commands under a line ``<!-- runbook: NAME -->``. ``stop PART`` and ``start PART`` stand for
whatever an operator does so with; every other line is run by a shell of its own, and has to succeed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.cli.dev.redis_server import find_server
from tests.support.process import REPOSITORY, Program, ServiceProcess

PAGE: Final = REPOSITORY / "docs" / "operations.md"
COMMAND_SECONDS_MAX: Final = 60
_BLOCK: Final = re.compile(r"<!-- runbook: (\S+) -->\n```bash\n(.*?)```", re.DOTALL)


def runbooks() -> dict[str, list[str]]:
    """The commands of every runbook of the page, by name."""
    return {name: block.splitlines() for name, block in _BLOCK.findall(PAGE.read_text())}


def follow(name: str, parts: Mapping[str, Program], directory: Path, environment: Mapping[str, str]) -> str:
    """Do what a runbook says, in a directory; returns what its commands have printed."""
    programs = _programs(directory / "bin")
    told = {**environment, "PATH": f"{programs}:{environment['PATH']}"}
    printed = ""
    for command in runbooks()[name]:
        word, _, part = command.partition(" ")
        if word == "stop":
            _stop(parts[part])
        elif word == "start":
            _start(parts[part])
        else:
            printed += _run(command, directory, told)
    return printed


def _programs(directory: Path) -> Path:
    """Where a shell finds what operators have installed: our command, and the tools of Redis."""
    directory.mkdir(exist_ok=True)
    twitter = directory / "twitter"
    twitter.write_text(f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m services.cli "$@"\n')
    twitter.chmod(0o755)
    check_aof = directory / "valkey-check-aof"
    if not check_aof.is_symlink():
        check_aof.symlink_to(find_server())  # it is what it is called
    return directory


def _stop(part: Program) -> None:
    if part.is_running:
        part.terminate()


def _start(part: Program) -> None:
    part.start()
    if isinstance(part, ServiceProcess):
        part.wait_ready()


def _run(command: str, directory: Path, environment: Mapping[str, str]) -> str:
    run = ["bash", "-c", command]
    done = subprocess.run(
        run, cwd=directory, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False
    )
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
