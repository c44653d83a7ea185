"""The command ``twitter export``: what everybody may see, in files that ``twitter import`` reads."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final, Literal

import msgspec
import typer
from sqlalchemy import Connection, Select, func, select
from sqlalchemy.orm import aliased
from sqlmodel import col

from services.cli.console import out, print_json, progress
from services.cli.errors import USAGE, CommandFailed
from services.cli.settings import DATA_DIR, DataOption, find_system
from services.cli.verify import copy_of_the_database
from services.common.database import open_reader
from services.common.fsync import fsync_path
from services.common.models import NOT_DELETED, Follow, Tweet, User

ROWS_PER_STEP: Final = 1_000

_follower, _followee = aliased(User), aliased(User)

_ROWS: Final[dict[str, Any]] = {
    "users": select(col(User.username)).order_by(col(User.id)),
    "follows": (
        select(col(_follower.username).label("follower"), col(_followee.username).label("followee"))
        .select_from(Follow)
        .join(_follower, col(_follower.id) == col(Follow.follower_id))
        .join(_followee, col(_followee.id) == col(Follow.followee_id))
        .order_by(col(Follow.position))
    ),
    "tweets": (
        select(col(User.username), col(Tweet.content))
        .join(User, col(User.id) == col(Tweet.user_id))
        .where(NOT_DELETED)
        .order_by(col(Tweet.id))
    ),
}
"""What each file holds, oldest first; the columns have the names that an import wants."""


class Exported(msgspec.Struct, frozen=True):
    """The files, in the order in which to import them, their rows by kind, and the position of the log they show."""

    position: int
    files: list[str]
    rows: dict[str, int]


def export(
    directory: Annotated[Path, typer.Argument(file_okay=False, help="A directory for the files; made if need be.")],
    file_format: Annotated[Literal["ndjson", "csv"], typer.Option("--format", help="Of the files.")] = "ndjson",
    data_dir: DataOption = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write users, follows and tweets to files that `twitter import` reads, all as of one position of the log.

    Takes a snapshot from the running db-updater, or copies its database when it is down. Only what everybody may see:
    no e-mail addresses (an import invents some), and no deleted tweets. Likes, retweets, profiles, and what a tweet
    replies to or quotes are left out, because an import has no rows for them.
    """
    paths = {kind: directory / f"{kind}.{file_format}" for kind in _ROWS}
    for path in paths.values():
        if path.exists():
            raise CommandFailed(f"{path} exists: remove it, or name another directory", USAGE)
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="twitter-export-") as scratch:
        copied = Path(scratch) / "copy.db"
        position = copy_of_the_database(find_system(data_dir), copied).position
        rows = _write(copied, paths)
    exported = Exported(position, [str(path) for path in paths.values()], rows)
    if as_json:
        print_json(exported)
        return
    out().print(", ".join(f"{count:,} {kind}" for kind, count in rows.items()) + f", as of position {position}")
    out().print(f"to read them in: twitter import {' '.join(exported.files)}", markup=False)


def _write(database: Path, paths: dict[str, Path]) -> dict[str, int]:
    """Write every file under a name of its own until it is whole and on disk; how many rows each has."""
    engine = open_reader(database)
    counts = dict.fromkeys(paths, 0)
    try:
        with engine.begin() as connection, progress() as bar:
            for kind, path in paths.items():
                total = connection.execute(select(func.count()).select_from(_ROWS[kind].subquery())).scalar_one()
                task = bar.add_task(kind, total=total)
                unfinished = path.with_name(f"{path.name}.unfinished")
                for count in _write_rows(connection, _ROWS[kind], unfinished):
                    counts[kind] += count
                    bar.advance(task, count)
                fsync_path(unfinished)
                unfinished.replace(path)
    finally:
        engine.dispose()
    return counts


def _write_rows(connection: Connection, statement: Select[Any], path: Path) -> Iterator[int]:
    """Write the rows a step at a time, as the file's name says; yields how many each step had."""
    names = [column.name for column in statement.selected_columns]
    result = connection.execution_options(yield_per=ROWS_PER_STEP).execute(statement)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file) if ".csv" in path.suffixes else None
        if table is not None:
            table.writerow(names)
        for rows in result.partitions():
            if table is not None:
                table.writerows(rows)
            else:
                lines = (msgspec.json.encode(dict(zip(names, row, strict=True))).decode() for row in rows)
                file.writelines(f"{line}\n" for line in lines)
            yield len(rows)
