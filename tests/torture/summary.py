"""The figures of a history."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate

from tests.torture.checker import READS
from tests.torture.history import Fault, History, Operation

SAMPLES_MAX = 20_000


def summary(history: History) -> str:
    """What was done, how long parts took to recover, and how long what was acknowledged took to be visible."""
    lines = [f"run: {run.command}" for run in history.runs]
    lines += [*_operations(history.operations), *_faults(history.faults), *_visibility(history)]
    return "\n".join(lines)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values is not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _operations(operations: Sequence[Operation]) -> list[str]:
    outcomes = Counter((operation.kind in READS, operation.outcome) for operation in operations)
    seconds = max((operation.ended for operation in operations), default=0.0) - min(
        (operation.invoked for operation in operations), default=0.0
    )
    repeated = Counter(operation.key for operation in operations if operation.key)
    return [
        f"{len(operations):,} requests in {seconds:,.0f} s",
        *(
            f"{'reads' if is_read else 'writes'} {outcome}: {count:,}"
            for (is_read, outcome), count in sorted(outcomes.items())
        ),
        f"idempotency keys: {len(repeated):,}, sent more than once: {sum(sent > 1 for sent in repeated.values()):,}",
    ]


def _faults(faults: Iterable[Fault]) -> list[str]:
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for fault in faults:
        seconds[fault.kind, fault.victim.split("-")[0]].append(fault.ended - fault.began)
    kills = sum(len(each) for (kind, _), each in seconds.items() if kind == "kill")
    return [
        f"faults: {sum(map(len, seconds.values())):,}, of them kill -9: {kills:,}",
        *(
            f"    {kind} {victim}: {len(each)}, until it served again p50 {percentile(each, 0.5):.2f} s, "
            f"p99 {percentile(each, 0.99):.2f} s"
            for (kind, victim), each in sorted(seconds.items())
        ),
    ]


def _visibility(history: History) -> list[str]:
    """How long after its acknowledgement a write was in the answers of each reader."""
    during: list[float] = []
    outside: list[float] = []
    spans = _merged((fault.began, fault.ended) for fault in history.faults)
    begins = [began for began, _ in spans]
    readers: dict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.kind in READS and operation.outcome == "ok":
            readers[operation.process.split("#")[0]].append(operation)
    written = [one for one in history.operations if one.kind not in READS and one.outcome == "ok"]
    step = max(len(written) // SAMPLES_MAX, 1)
    for reads in readers.values():
        reads.sort(key=lambda read: read.ended)
        ends = [read.ended for read in reads]
        greatest = list(accumulate((read.position for read in reads), max))
        for write in written[::step]:
            at = max(bisect_left(ends, write.ended), bisect_left(greatest, write.position))
            if at == len(ends):
                continue
            span = bisect_right(begins, ends[at]) - 1
            is_disturbed = span >= 0 and spans[span][1] >= write.invoked
            (during if is_disturbed else outside).append(ends[at] - write.ended)
    return [
        f"acknowledged but not visible at a reader, {name}: p50 {percentile(values, 0.5) * 1000:.0f} ms, "
        f"p99 {percentile(values, 0.99) * 1000:.0f} ms ({len(values):,} samples)"
        for name, values in (("outside faults", outside), ("during faults", during))
        if values
    ]


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans of time that do not overlap, in order."""
    merged: list[tuple[float, float]] = []
    for began, ended in sorted(spans):
        if merged and began <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], ended))
        else:
            merged.append((began, ended))
    return merged
