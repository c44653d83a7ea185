"""Checks of this machine: versions, the owner's volume, keys."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.cli.doctor.finding import Finding, action, advice, fine
from services.common.auth import KeysUnfit
from services.common.auth.key_file import read_key_file
from services.common.auth.signing_keys import parse_keys
from services.common.database import Database
from services.common.database.sqlite import check_sqlite, has_wal_fix, sqlite_library
from services.common.errors import StorageUnfit
from services.common.telemetry import version

FREE_BYTES_MIN: Final = 2**30
FREE_SHARE_MIN: Final = 0.1
EMAIL_HASH_KEY_CHARS_MIN: Final = 16


def check_versions() -> Iterator[Finding]:
    """Ours, Python's and SQLite's."""
    yield fine("version", f"twitter-clone {version()}, Python {platform.python_version()}")
    library = sqlite_library()
    try:
        found = check_sqlite()
    except StorageUnfit as error:
        yield action("sqlite", str(error), "pip install 'pysqlite3>=0.6.1'")
        return
    if has_wal_fix(library.sqlite_version_info):
        yield fine("sqlite", f"SQLite {found} ({library.__name__})")
    else:
        yield advice(
            "sqlite",
            f"SQLite {found} ({library.__name__}) can damage a file that two connections write; ours have one writer",
            "let nothing else write the database; where there is a wheel, pip install 'pysqlite3>=0.6.1'",
        )


def lock_path(database: Database, volume_dir: Path) -> Path:
    """What the owner locks: beside a SQLite file, else on its volume."""
    return database.with_name(f"{database.name}.lock") if isinstance(database, Path) else volume_dir / "owner.lock"


def check_volume(directory: Path, lock: Path | None) -> Iterator[Finding]:
    """The owner's directory: whether it can be written, its space, and, if there is a ``lock`` to look at, who has it.

    To look is to hold it for an instant, so do not where an owner answers.
    """
    if not directory.is_dir():
        yield advice(
            "volume",
            f"{directory} is not on this machine, so it was not looked at",
            "run `twitter doctor` where the db-updater runs, with its DATABASE_URL",
        )
        return
    yield _space(directory)
    yield _fsync(directory)
    if lock is not None:
        yield _lock(lock)


def check_keys(auth_keys_file: Path, email_hash_key_file: Path) -> Iterator[Finding]:
    """EMAIL_HASH_KEY and AUTH_KEYS_FILE, as this environment or a ``twitter dev`` on this data has them."""
    yield _email_hash_key(email_hash_key_file)
    if not auth_keys_file.exists():
        yield advice(
            "auth keys",
            f"there is no {auth_keys_file}: without keys nobody is given a token",
            "set AUTH_KEYS_FILE to the services' file, or make one with `twitter token keys new`",
        )
        return
    try:
        count = len(parse_keys(read_key_file(auth_keys_file)).keys)
    except KeysUnfit as error:
        remedy = "restore it from where your secrets are; the services go on with the keys that they have read"
        yield action("auth keys", f"{auth_keys_file}: {error}", remedy)
        return
    yield _private(auth_keys_file, "auth keys", f"{count} in {auth_keys_file}")


def _space(directory: Path) -> Finding:
    usage = shutil.disk_usage(directory)
    what = f"{usage.free / 2**30:,.1f} GiB of {usage.total / 2**30:,.1f} GiB are free in {directory}"
    if usage.free < min(FREE_BYTES_MIN, usage.total * FREE_SHARE_MIN):
        remedy = "enlarge the volume: when it is full the db-updater stops applying, and the log grows in Redis"
        return action("volume space", what, remedy)
    return fine("volume space", what)


def _fsync(directory: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"twitter doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedy = "see who owns the directory, and whether it is mounted read-only"
        return action("volume", f"{directory} cannot be written and synced: {error.strerror}", remedy)
    return fine("volume", f"{directory} can be written and synced")


def _lock(path: Path) -> Finding:
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return action("owner's lock", f"no db-updater has ever had {path.parent}", "start the db-updater")
    except BlockingIOError:
        holder = path.read_text(encoding="utf-8").strip() or "another process"
        return fine("owner's lock", f"{path.parent} is held by {holder}")
    return action("owner's lock", f"nobody holds {path.parent}: no db-updater runs on it", "start the db-updater")


def _email_hash_key(path: Path) -> Finding:
    given = os.environ.get("EMAIL_HASH_KEY")
    if given is not None:
        if len(given) < EMAIL_HASH_KEY_CHARS_MIN:
            return action("e-mail key", "EMAIL_HASH_KEY is too short", f"use {EMAIL_HASH_KEY_CHARS_MIN} or more")
        return fine("e-mail key", "EMAIL_HASH_KEY is set")
    if not path.exists():
        return advice(
            "e-mail key",
            f"EMAIL_HASH_KEY is not set here, and there is no {path}",
            "run this with the write service's environment to have it checked; keep the key with your backups",
        )
    return _private(path, "e-mail key", f"in {path}")


def _private(path: Path, check: str, what: str) -> Finding:
    """Whether a file of secrets is readable by us and not by everybody."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.R_OK):
        return action(check, f"{path} cannot be read by this user", "run this as the user of the services")
    if mode & stat.S_IROTH:
        return action(check, f"everybody can read {path} (mode {mode:04o})", f"chmod o= {path}")
    return fine(check, what)
