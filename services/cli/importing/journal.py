"""What an import has done so far, on disk, so that the next run goes on where this one stopped.

One JSON array a line, appended and never changed:

- ``["import", fingerprint]`` first: the inputs it belongs to
- ``["sent", [numbers], position]`` before these tweets are sent: each lies above the position if it was accepted
- ``["user", number, username, id]``, ``["done", number, tweet id or 0]``, ``["refused", number, {...}]`` after

Only "sent" is flushed to the disk (fsync): losing another line makes the next run ask again, losing that one would
make it send a tweet twice. A line torn by a crash has no line feed and is cut off at the next start.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from services.cli.errors import CommandFailed
from services.common.fsync import fsync_path

LINE_END: Final = b"\n"


class Refusal(msgspec.Struct, frozen=True):
    """A row that was not accepted. ``status`` is 0 when it was never sent; ``row`` is without what is private."""

    file: str
    line: int
    status: int
    code: str
    detail: Any
    row: Any


class Journal:
    """The journal of one import; held by one process at a time. Safe to use from several threads."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.settled: set[int] = set()
        self.sent: dict[int, int] = {}
        self.user_ids: dict[str, int] = {}
        self.tweet_ids: dict[int, int] = {}
        self.refusals: dict[int, Refusal] = {}
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fsync_path(path.parent)
            self._hold()
            self._replay(fingerprint)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._file)

    def record_sent(self, numbers: Sequence[int], position: int) -> None:
        """These tweets are about to be sent; every one of them will lie above ``position``. On disk on return."""
        self._append(["sent", numbers, position])
        os.fsync(self._file)

    def record_user(self, number: int, username: str, user_id: int) -> None:
        """This row's account exists and has this id."""
        self._append(["user", number, username, user_id])

    def record_done(self, number: int, tweet_id: int = 0) -> None:
        """This row is applied; a tweet's id is now taken and explains no other row."""
        self._append(["done", number, tweet_id])

    def record_refused(self, number: int, refusal: Refusal) -> None:
        """This row was refused for good."""
        self._append(["refused", number, msgspec.to_builtins(refusal)])

    def unsettled(self) -> dict[int, int]:
        """Tweets that were sent and of which nobody knows what became: row number -> the position they lie above."""
        return {number: position for number, position in self.sent.items() if number not in self.settled}

    def seconds_since_change(self, now: float) -> float:
        """How long ago the last line was written, at Unix time ``now``; 0 if a clock says that it will be."""
        return max(0.0, now - os.fstat(self._file).st_mtime)

    def _append(self, record: list[Any]) -> None:
        line = msgspec.json.encode(record) + LINE_END
        with self._lock:
            os.write(self._file, line)
            self._remember(record)

    def _hold(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CommandFailed(f"another import of these files runs ({self.path}): wait for it") from error

    def _replay(self, fingerprint: str) -> None:
        content = self.path.read_bytes()
        whole, _, torn = content.rpartition(LINE_END)
        if torn:
            os.ftruncate(self._file, len(content) - len(torn))
        records = self._decode(whole.splitlines())
        if not records:
            self._append(["import", fingerprint])
        elif records[0] != ["import", fingerprint]:
            raise CommandFailed(f"{self.path} belongs to other files: give another --journal")
        for record in records:
            self._remember(record)

    def _decode(self, lines: Iterable[bytes]) -> list[list[Any]]:
        decoder = msgspec.json.Decoder(list[Any])
        try:
            return [decoder.decode(line) for line in lines]
        except msgspec.DecodeError as error:
            raise CommandFailed(f"{self.path} is damaged ({error}): move it away to import anew") from error

    def _remember(self, record: list[Any]) -> None:
        match record:
            case ["import", _]:
                pass
            case ["sent", numbers, position]:
                self.sent.update(dict.fromkeys(numbers, position))
            case ["user", number, username, user_id]:
                self.settled.add(number)
                self.user_ids[username.lower()] = user_id
            case ["done", number, tweet_id]:
                self.settled.add(number)
                if tweet_id:
                    self.tweet_ids[number] = tweet_id
            case ["refused", number, refusal]:
                self.settled.add(number)
                self.refusals[number] = msgspec.convert(refusal, Refusal)
            case _:
                raise CommandFailed(f"{self.path} holds an unknown line: move it away to import anew")
