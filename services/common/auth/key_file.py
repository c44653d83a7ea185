"""Reading the file of signing keys, making it, and rotating it."""

from __future__ import annotations

import os
import secrets
import tempfile
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from services.common.auth.errors import KeysUnfit
from services.common.auth.signing_keys import SECRET_BYTES_MIN, SigningKey, encode_keys, parse_keys
from services.common.auth.tokens import LEEWAY_SECONDS, LIFE_SECONDS
from services.common.fsync import fsync_path

FILE_BYTES_MAX: Final = 65_536
SPREAD_SECONDS: Final = 300
"""How long a new key only verifies, until every pod has it: kubelets may take two minutes to bring a Secret."""


def read_key_file(path: Path) -> bytes:
    """The content of the file. Raises KeysUnfit if it cannot be read or is far too large."""
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise KeysUnfit(f"the file cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise KeysUnfit(f"the file has more than {FILE_BYTES_MAX} bytes")
    return content


def add_key(path: Path, now_seconds: int) -> SigningKey:
    """Add a key to the file, or make the file with its first key; only this user may read it.

    A key signs after SPREAD_SECONDS, or at once if there is no other. Keys whose last token has expired are dropped.
    A crash leaves the old file or the new one. Raises KeysUnfit for a file that is there and unfit.
    """
    known = parse_keys(read_key_file(path)).keys if path.exists() else ()
    kid = f"{datetime.fromtimestamp(now_seconds, UTC):%Y%m%d}-{secrets.token_hex(4)}"
    added = SigningKey(kid, secrets.token_bytes(SECRET_BYTES_MIN), now_seconds + SPREAD_SECONDS)
    content = encode_keys(_still_needed((*known, added), now_seconds))
    parse_keys(content)
    _replace(path, content)
    return added


def remove_key(path: Path, kid: str, now_seconds: int) -> SigningKey:
    """Take a key out of the file: from then on no token is good that it has signed.

    A crash leaves the old file or the new one. Raises KeysUnfit for an unfit file, a key that is not there, and the
    key that signs now: another one has to be signing first.
    """
    keys = parse_keys(read_key_file(path))
    removed = keys.find(kid)
    if removed is None:
        raise KeysUnfit(f"there is no key {kid}")
    if removed is keys.signer(now_seconds):
        raise KeysUnfit(f"{kid} signs now: add a key, and wait until that one signs")
    _replace(path, encode_keys(key for key in keys.keys if key is not removed))
    return removed


def _still_needed(keys: tuple[SigningKey, ...], now_seconds: int) -> list[SigningKey]:
    """The keys without those that have been succeeded for longer than any token lives."""
    keys = tuple(sorted(keys, key=lambda key: key.signs_from))
    oldest_living = now_seconds - LIFE_SECONDS["refresh"] - LEEWAY_SECONDS
    return [key for key, successor in pairwise(keys) if successor.signs_from > oldest_living] + [keys[-1]]


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).replace(path)
    finally:
        Path(unfinished).unlink(missing_ok=True)
    fsync_path(path.parent)
