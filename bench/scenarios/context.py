"""What a scenario is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.rounds import Scale
from bench.system import BenchSystem


@dataclass(frozen=True, slots=True)
class Context:
    """A running system with its society, a directory for files, and how much to measure."""

    system: BenchSystem
    directory: Path
    scale: Scale
