"""The demo's last word: what happened, in numbers, and whether everything agrees."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from rich.table import Table

from services.cli.demo.metrics import Samples
from services.cli.importing.report import Report
from services.cli.show_log import LogReport
from services.cli.verify import Verification


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``disagreements`` is empty when everything agrees."""

    events: dict[str, int]
    log_entries: int
    append_calls: int
    append_calls_mean_entries: float
    owner_batches: int
    owner_batches_mean_entries: float
    rows: dict[str, int]
    refused: dict[str, int]
    owner_lag_entries: int
    reader_lag_entries: int
    cache_hits: int
    cache_misses: int
    cache_hit_ratio: float
    writes: int
    writes_per_second: float
    reads: int
    reads_per_second: float
    verified_position: int
    verify_holds: bool
    disagreements: list[str]


def summarize(
    *,
    samples: Mapping[str, Samples],
    log: LogReport,
    imported: Report,
    verification: Verification,
    writes: tuple[int, float],
    reads: tuple[int, float],
    disagreements: list[str],
) -> Summary:
    """Put it together. ``writes`` and ``reads`` are a number of requests and the seconds they took."""
    owner, write, read = samples["db-updater"], samples["write"], samples["read"]
    hits, misses = read.total("cache_hits_total"), read.total("cache_misses_total")
    return Summary(
        events={name: int(count) for name, count in owner.by_label("applied_entries_total", "type").items()},
        log_entries=log.log.length,
        append_calls=int(write.total("append_batch_entries_count")),
        append_calls_mean_entries=_mean(write, "append_batch_entries"),
        owner_batches=int(owner.total("batch_entries_count")),
        owner_batches_mean_entries=_mean(owner, "batch_entries"),
        rows={name: table.rows for name, table in verification.tables.items()},
        refused=imported.refused_by_code,
        owner_lag_entries=log.owner.lag_entries if log.owner else -1,
        reader_lag_entries=log.reader.lag_entries if log.reader else -1,
        cache_hits=int(hits),
        cache_misses=int(misses),
        cache_hit_ratio=round(hits / (hits + misses), 3) if hits + misses else 0.0,
        writes=writes[0],
        writes_per_second=round(writes[0] / writes[1], 1),
        reads=reads[0],
        reads_per_second=round(reads[0] / reads[1], 1),
        verified_position=verification.position,
        verify_holds=verification.holds,
        disagreements=disagreements,
    )


def _mean(samples: Samples, histogram: str) -> float:
    count = samples.total(f"{histogram}_count")
    return round(samples.total(f"{histogram}_sum") / count, 1) if count else 0.0


def as_table(summary: Summary) -> Table:
    """The summary for people."""
    table = Table(show_header=False, title="summary")
    table.add_row("events applied", _list(summary.events))
    table.add_row("log", f"{summary.log_entries:,} entries, in {summary.append_calls:,} append calls of "
                         f"{summary.append_calls_mean_entries:g} on average")  # fmt: skip
    table.add_row("owner", f"{summary.owner_batches:,} batches of {summary.owner_batches_mean_entries:g} on average")
    table.add_row("rows", _list(summary.rows))
    table.add_row("refused", _list(summary.refused) or "none")
    table.add_row("lag", f"owner {summary.owner_lag_entries:,}, reader {summary.reader_lag_entries:,} entries")
    table.add_row("cache", f"{summary.cache_hit_ratio:.1%} hits ({summary.cache_hits:,} of "
                           f"{summary.cache_hits + summary.cache_misses:,})")  # fmt: skip
    table.add_row("writes", f"{summary.writes:,} requests, {summary.writes_per_second:,.0f} a second")
    table.add_row("reads", f"{summary.reads:,} requests, {summary.reads_per_second:,.0f} a second")
    table.add_row("verify", f"{'holds' if summary.verify_holds else 'FAILS'} at {summary.verified_position}")
    table.add_row("read back", "all as written" if not summary.disagreements else
                  f"{len(summary.disagreements):,} DISAGREE")  # fmt: skip
    return table


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
