"""What processes use: processor time and memory, as the kernel counts them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


class Memory(msgspec.Struct, frozen=True):
    """Of one process, in MB (10^6 bytes): what is its own (RssAnon), and all that is resident, files included."""

    anonymous_mb: float
    resident_mb: float


def memory(pid: int) -> Memory:
    """What a process holds now."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    anonymous, resident = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("RssAnon", "VmRSS"))
    return Memory(round(anonymous, 1), round(resident, 1))


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used in all its threads."""
    # Behind the name, which may hold spaces: utime and stime are the 14th and 15th of all fields.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


@contextmanager
def cpu_shares(pids: Mapping[str, int]) -> Iterator[dict[str, float]]:
    """Fills what it yields with the share of one core that each process used meanwhile, by the name given."""
    shares: dict[str, float] = {}
    before, began_at = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic()
    yield shares
    seconds = time.monotonic() - began_at
    shares.update({name: round((cpu_seconds(pid) - before[name]) / seconds, 2) for name, pid in pids.items()})
