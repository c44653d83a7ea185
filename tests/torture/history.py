"""What happened in a run, as NDJSON: one record a line, complete enough to be judged again at any time.

Times are seconds of the machine's monotonic clock, the same in every process of the run. A record of each kind:

==============  ====================================================================================
``run``         how the run was started
``operation``   one request of a client: each time it was sent is an operation of its own
``fault``       what was done to a part of the system, and when that part served again
``entry``       one entry of the whole log as it is at the end, from archive and stream
``copy``        the tables of one process at the end, or of a rebuild
``names``       the usernames that Redis holds at the end
``incomplete``  something of the end that could not be collected
==============  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

Outcome = Literal["ok", "refused", "unknown"]
"""``ok``: acknowledged. ``refused``: the answer says that nothing was done. ``unknown``: anything else."""


class Run(msgspec.Struct, tag="run", frozen=True, omit_defaults=True):
    """How a run was started, and after which entry of the log: no request of the run asked for that one or an older."""

    seed: int
    seconds: float
    command: str
    after_position: int = 0


class Operation(msgspec.Struct, tag="operation", frozen=True, omit_defaults=True):
    """A request that was sent once.

    ``kind`` is the event that a write asks for, or ``read_tweet``, ``read_user``, ``read_list``. ``process`` is who was
    asked, with the number of its start; empty if that changed meanwhile. ``target`` is the tweet or user that it is
    about, ``user`` who acts (0: anonymous), ``content`` a text or a username. ``position`` is the answer's,
    ``min_position`` what the request asked for. ``seen`` is what a read has shown, none for a 404.
    """

    client: str
    process: str
    kind: str
    invoked: float
    ended: float
    outcome: Outcome
    status: int = 0
    code: str = ""
    key: str = ""
    target: int = 0
    user: int = 0
    content: str = ""
    position: int = 0
    id: int = 0
    min_position: int = 0
    seen: dict[str, Any] | None = None


class Fault(msgspec.Struct, tag="fault", frozen=True, omit_defaults=True):
    """``kind`` was done to ``victim``, which served again at ``ended``, or (not ``recovered``) never did."""

    kind: str
    victim: str
    began: float
    ended: float
    recovered: bool = True
    detail: str = ""


class LogEntry(msgspec.Struct, tag="entry", frozen=True):
    """An entry of the log."""

    position: int
    prev: int
    name: str
    event: dict[str, Any]


class Copy(msgspec.Struct, tag="copy", frozen=True):
    """The tables that ``holder`` has: their hashes, how many rows, and rows whose counter does not equal its rows."""

    holder: str
    position: int
    hashes: dict[str, str]
    rows: dict[str, int]
    miscounted: list[str]


class Names(msgspec.Struct, tag="names", frozen=True):
    """Which account holds which username, in lower case, in Redis."""

    holders: dict[str, int]


class Incomplete(msgspec.Struct, tag="incomplete", frozen=True):
    """What could not be collected, and why."""

    reason: str


Record = Run | Operation | Fault | LogEntry | Copy | Names | Incomplete


@dataclass
class History:
    """A whole run, in the order of the file."""

    runs: list[Run] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    entries: list[LogEntry] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    names: list[Names] = field(default_factory=list)
    incomplete: list[Incomplete] = field(default_factory=list)

    @property
    def own_entries(self) -> list[LogEntry]:
        """Those since the first run began."""
        after = min((run.after_position for run in self.runs), default=0)
        return [entry for entry in self.entries if entry.position > after]

    @classmethod
    def of(cls, records: Iterable[Record]) -> History:
        """These records, sorted by kind."""
        history = cls()
        for record in records:
            match record:
                case Run():
                    history.runs.append(record)
                case Operation():
                    history.operations.append(record)
                case Fault():
                    history.faults.append(record)
                case LogEntry():
                    history.entries.append(record)
                case Copy():
                    history.copies.append(record)
                case Names():
                    history.names.append(record)
                case Incomplete():
                    history.incomplete.append(record)
        return history


class HistoryFile:
    """Writes a history. Use as a context manager; ``add`` is for any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("wb")
        self._encode = msgspec.json.Encoder().encode

    def add(self, record: Record) -> None:
        """Write one record."""
        self._file.write(self._encode(record) + b"\n")

    def flush(self) -> None:
        """Let others read what was written until now."""
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file. Raises msgspec.ValidationError for a line that is none."""
    decode = msgspec.json.Decoder(Record).decode
    with path.open("rb") as file:
        for line in file:
            yield decode(line)
