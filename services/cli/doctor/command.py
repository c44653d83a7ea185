"""The command ``twitter doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from services.cli.console import out, plain, print_json
from services.cli.doctor.finding import Finding, Level
from services.cli.doctor.log_checks import check_redis
from services.cli.doctor.machine_checks import check_keys, check_versions, check_volume, lock_path
from services.cli.doctor.service_checks import check_service
from services.cli.settings import DATA_DIR, DataOption, System, find_system

EXIT_CODE_MAX: Final = 100

_MARKS: Final[dict[Level, tuple[str, str]]] = {
    "fine": ("ok", "green"),
    "advice": ("advice", "yellow"),
    "action": ("ACTION", "red"),
}


class Diagnosis(msgspec.Struct, frozen=True):
    """Every finding, and how many need somebody to act."""

    actions: int
    findings: list[Finding]


def doctor(
    data_dir: DataOption = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check versions, Redis, the volume, clocks, ports and keys, and say what to do about what is wrong.

    Changes nothing. The exit code is the number of findings that need action, at most 100; advice is not counted.
    """
    findings = list(_findings(find_system(data_dir), data_dir))
    actions = sum(finding.level == "action" for finding in findings)
    if as_json:
        print_json(Diagnosis(actions, findings))
    else:
        _print(findings, actions)
    if actions:
        raise typer.Exit(min(actions, EXIT_CODE_MAX))


def _findings(system: System, data_dir: Path) -> Iterator[Finding]:
    yield from check_versions()
    yield from check_redis(system.redis_url)
    owner = check_service("db-updater", system.owner_url, "OWNER_URL")
    yield owner
    yield check_service("read service", system.read_url, "READ_SERVICE_URL")
    yield check_service("write service", system.write_url, "WRITE_SERVICE_URL")
    lock = lock_path(system.database, system.volume_dir)
    yield from check_volume(system.volume_dir, None if owner.level == "fine" else lock)
    yield from check_keys(system.auth_keys_file, data_dir / "keys" / "email_hash_key")


def _print(findings: list[Finding], actions: int) -> None:
    console = out()
    for finding in findings:
        mark, style = _MARKS[finding.level]
        console.print(f"{mark:<7}", style=style, end="")
        console.print(plain(f"{finding.check}: {finding.what}"), markup=False)
        if finding.remedy:
            console.print(plain(f"       -> {finding.remedy}"), markup=False)
    console.print(f"{actions} need action" if actions else "nothing needs action")
