"""Where the commands find the system: the environment, else the ``twitter dev`` that runs, else the usual ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.cli.dev.state import DevState, running_state
from services.cli.errors import USAGE, CommandFailed
from services.common.backup import OwnersFiles
from services.common.database import Database, database_of
from services.common.settings import DatabaseUrl, RedisUrl

DATA_DIR: Final = Path("data")

DataOption = Annotated[
    Path, typer.Option("--data", help="Directory of the local system's data.", envvar="DATA_DIR", show_envvar=True)
]


class CliSettings(BaseSettings):
    """What the environment says about the system; everything is optional."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    redis_url: RedisUrl | None = Field(None, description="The Redis that holds the log.", repr=False)
    read_service_url: str | None = Field(None, description="Base URL of the read service.")
    write_service_url: str | None = Field(None, description="Base URL of the write service.")
    owner_url: str | None = Field(None, description="Base URL of the db-updater's internal port.")
    database_url: DatabaseUrl | None = Field(None, description="The owner's database.", repr=False)
    volume_dir: Path | None = Field(
        None, description="Where the owner's other files are; default: beside the database."
    )
    archive_dir: Path | None = Field(None, description="The owner's archive; default: beside the database.")
    auth_keys_file: Path | None = Field(None, description="The keys that tokens are signed with.")


@dataclass(frozen=True, slots=True)
class System:
    """Where one running system is."""

    redis_url: str
    read_url: str
    write_url: str
    owner_url: str
    database: Database
    volume_dir: Path
    archive_dir: Path
    auth_keys_file: Path

    @property
    def owners_files(self) -> OwnersFiles:
        """Where the owner keeps what a backup holds. Raises CommandFailed where its database is no file."""
        if not isinstance(self.database, Path):
            raise CommandFailed("backups are of SQLite: back PostgreSQL up with its own tools", USAGE)
        return OwnersFiles(self.database, self.volume_dir, self.archive_dir)


def find_system(data_dir: Path, settings: CliSettings | None = None) -> System:
    """Say where the system is: environment first, then the ``twitter dev`` on ``data_dir``, then the defaults."""
    chosen = settings or read_settings()
    running = running_state(data_dir) or DevState.at_usual_ports(data_dir)
    database = database_of(chosen.database_url or running.database_url)
    default_dir = database.parent if isinstance(database, Path) else Path(running.volume_dir)
    volume_dir = chosen.volume_dir or default_dir
    return System(
        redis_url=chosen.redis_url or running.redis_url,
        read_url=(chosen.read_service_url or running.read_url).rstrip("/"),
        write_url=(chosen.write_service_url or running.write_url).rstrip("/"),
        owner_url=(chosen.owner_url or running.owner_url).rstrip("/"),
        database=database,
        volume_dir=volume_dir,
        archive_dir=chosen.archive_dir or volume_dir / "archive",
        auth_keys_file=chosen.auth_keys_file or Path(running.auth_keys_file),
    )


def system_of(state: DevState) -> System:
    """The system that a ``twitter dev`` has published, whatever the environment says."""
    return System(
        redis_url=state.redis_url,
        read_url=state.read_url,
        write_url=state.write_url,
        owner_url=state.owner_url,
        database=database_of(state.database_url),
        volume_dir=Path(state.volume_dir),
        archive_dir=Path(state.volume_dir) / "archive",
        auth_keys_file=Path(state.auth_keys_file),
    )


def read_settings() -> CliSettings:
    """Read the environment. Raises CommandFailed that names the variable which is wrong."""
    try:
        return CliSettings()
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        reason = problem["msg"].removeprefix("Value error, ")
        raise CommandFailed(f"{str(problem['loc'][0]).upper()}: {reason}", USAGE) from error
