"""The secrets of a local system: made once, kept beside its data, readable by its user only."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.auth import add_key

SECRET_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the services of a local system are told in confidence, or where it is."""

    email_hash_key: str
    auth_keys_file: Path


def keep_secrets(directory: Path) -> Secrets:
    """Those of EMAIL_HASH_KEY and AUTH_KEYS_FILE, else those in the directory, made at the first call."""
    own_file = directory / "auth_keys.json"
    given_file = os.environ.get("AUTH_KEYS_FILE")
    if not given_file and not own_file.exists():
        add_key(own_file, int(time.time()))
    email_hash_key = os.environ.get("EMAIL_HASH_KEY") or keep_secret(directory / "email_hash_key")
    return Secrets(email_hash_key, Path(given_file) if given_file else own_file)


def keep_secret(path: Path) -> str:
    """The secret in the file; it is made at the first call. A crash leaves a whole file or none."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    return path.read_text().strip()
