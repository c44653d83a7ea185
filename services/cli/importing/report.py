"""What an import tells at its end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from rich.table import Table

from services.cli.importing.importer import Tally
from services.cli.importing.journal import Refusal
from services.cli.importing.rows import KINDS

BAD = "bad"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run. Counts by kind of row are of this run; ``refused_by_code`` is of all runs together."""

    applied: dict[str, int]
    existed: dict[str, int]
    earlier: dict[str, int]
    refused: dict[str, int]
    refused_by_code: dict[str, int]
    seconds: float
    requests_per_second: float
    refusals_file: str | None
    journal: str


def make_report(tally: Tally, refusals: dict[int, Refusal], seconds: float, journal_path: Path) -> Report:
    """Count, and write the refusals, a JSON object a line, beside the journal if there are any."""
    requests = tally.applied.total() + tally.existed.total() + tally.refused.total()
    refusals_path = journal_path.with_suffix(".refused.ndjson")
    return Report(
        applied=dict(tally.applied),
        existed=dict(tally.existed),
        earlier=dict(tally.earlier),
        refused=dict(tally.refused),
        refused_by_code=dict(Counter(refusal.code for refusal in refusals.values())),
        seconds=round(seconds, 3),
        requests_per_second=round(requests / seconds, 1) if seconds else 0.0,
        refusals_file=str(write_refusals(refusals_path, refusals)) if refusals else None,
        journal=str(journal_path),
    )


def write_refusals(path: Path, refusals: dict[int, Refusal]) -> Path:
    """Write every refusal in the order of the rows; a file from an earlier run is replaced."""
    path.write_bytes(b"".join(msgspec.json.encode(refusals[number]) + b"\n" for number in sorted(refusals)))
    return path


def as_table(report: Report) -> Table:
    """The report for people."""
    table = Table("rows", "applied", "existed already", "done by an earlier run", "refused", title="twitter import")
    for kind in (*KINDS, BAD):
        counts: list[Any] = [
            counter.get(kind, 0) for counter in (report.applied, report.existed, report.earlier, report.refused)
        ]
        if any(counts):
            table.add_row(kind, *(f"{count:,}" for count in counts))
    return table
