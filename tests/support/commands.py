"""The ``twitter`` command and the scripts, run on the system of a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from services.cli.main import app
from tests.support.databases import database_url
from tests.support.process import INHERITED, REPOSITORY
from tests.support.system import System


def environment_of(system: System) -> dict[str, str]:
    """What tells the commands where this system is."""
    return {
        "REDIS_URL": system.redis.url,
        "READ_SERVICE_URL": system.readers[0].url,
        "WRITE_SERVICE_URL": system.writers[0].url,
        "OWNER_URL": system.owner.url,
        "DATABASE_URL": database_url(system.owner_directory),
        "ARCHIVE_DIR": str(system.owner_directory / "archive"),
    }


def twitter(system: System, *arguments: str, environment: Mapping[str, str] | None = None) -> Result:
    """``twitter ARGUMENTS`` on this system, in this process."""
    return CliRunner().invoke(app, list(arguments), env={**environment_of(system), **(environment or {})})


def twitter_json(system: System, *arguments: str, environment: Mapping[str, str] | None = None) -> Any:
    """What ``twitter ARGUMENTS --json`` prints; it must succeed."""
    result = twitter(system, *arguments, "--json", environment=environment)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def run_script(
    name: str, directory: Path, environment: Mapping[str, str], timeout_seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """A program of script/, run in a directory with nothing in its environment but this."""
    inherited = {variable: os.environ[variable] for variable in INHERITED if variable in os.environ}
    script = REPOSITORY / "script" / name
    return subprocess.run(
        [sys.executable, script] if script.suffix == ".py" else [script],
        cwd=directory,
        env={**inherited, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
