"""The command ``twitter snapshot``: what readers start from, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from services.cli.console import out, print_json
from services.cli.errors import USAGE, CommandFailed
from services.cli.owner import fetch_snapshot
from services.cli.settings import DATA_DIR, DataOption, find_system
from services.common.fsync import fsync_path


class Taken(msgspec.Struct, frozen=True):
    """A snapshot in a file."""

    path: str
    position: int
    projection_version: int
    sha256: str
    size_bytes: int


def snapshot(
    output: Annotated[Path, typer.Argument(help="The new file.", show_default=False)],
    data_dir: DataOption = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fetch a verified snapshot of the public tables from the db-updater: a SQLite file at one position.

    It holds nothing that was given in confidence, and is no backup: see `twitter backup`.
    """
    if output.exists():
        raise CommandFailed(f"{output} exists: remove it, or name another file", USAGE)
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{output.name}.unfinished")
    try:
        fetched = fetch_snapshot(find_system(data_dir).owner_url, unfinished)
        fsync_path(unfinished)
        unfinished.rename(output)
    finally:
        unfinished.unlink(missing_ok=True)
    fsync_path(output.parent)
    taken = Taken(str(output), fetched.position, fetched.projection_version, fetched.sha256, fetched.size_bytes)
    if as_json:
        print_json(taken)
    else:
        out().print(f"{taken.path}: at position {taken.position}, SHA-256 {taken.sha256}", markup=False)
