"""The keys in use: those of a file, followed while it changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from services.common.auth.errors import KeysUnfit
from services.common.auth.key_file import read_key_file
from services.common.auth.metrics import AuthMetrics
from services.common.auth.signing_keys import KeySet, parse_keys

CHECK_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class Keyring:
    """Rotation without a restart: the file is looked at again when it was last looked at CHECK_SECONDS ago.

    It is read whole and compared, 15 microseconds for a file of this size, because a file's time and inode may
    stay the same while its content changes. A file that is missing, half-written or unfit changes nothing: the
    keys in use stay, the log says why, once, and ``auth_key_file_refused`` is 1 until it is good.
    In Kubernetes mount the Secret's directory, not the file by ``subPath``, which never changes.
    """

    def __init__(self, path: Path, metrics: AuthMetrics, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Raises KeysUnfit: without any keys there is nothing to go on with."""
        self._path = path
        self._metrics = metrics
        self._monotonic = monotonic
        self._refusal: str | None = None
        self._content = b""
        self._take_file()
        self._check_at = monotonic() + CHECK_SECONDS

    def current(self) -> KeySet:
        """The keys in use now; the same object until the file has changed."""
        if self._monotonic() >= self._check_at:
            self._check_at = self._monotonic() + CHECK_SECONDS
            self._check()
        return self._keys

    def _check(self) -> None:
        try:
            self._take_file()
        except KeysUnfit as error:
            self._report(str(error))
        else:
            self._report(None)

    def _take_file(self) -> None:
        content = read_key_file(self._path)
        if content != self._content:
            self._keys = parse_keys(content)
            self._content = content
            log.info("auth_keys_loaded", path=str(self._path), kids=[key.kid for key in self._keys.keys])

    def _report(self, refusal: str | None) -> None:
        if refusal == self._refusal:
            return
        self._refusal = refusal
        self._metrics.key_file_refused.set(refusal is not None)
        if refusal is not None:
            log.error("auth_key_file_refused", path=str(self._path), reason=refusal, consequence="old keys stay in use")
