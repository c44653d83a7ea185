"""The figures of a history."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from tests.torture.checker import READS
from tests.torture.history import Fault, History, Operation

SAMPLES_MAX = 20_000
KILLS = ("kill", "corrupt")
"""The kinds of fault that are a ``kill -9``."""

Row = tuple[str, str]
"""What, and how much."""


def summary(history: History) -> Iterator[Row]:
    """What was done, how long parts took to recover, and how long what was acknowledged took to be visible."""
    seconds = _seconds(history.operations)
    for run in history.runs:
        yield "run", f"`{run.command}`"
    yield from _operations(history.operations, seconds)
    yield from _faults(history.faults, seconds)
    yield from _visibility(history)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values is not above."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _seconds(operations: Sequence[Operation]) -> float:
    """From the first request to the last answer."""
    ended = max((operation.ended for operation in operations), default=1.0)
    return ended - min((operation.invoked for operation in operations), default=0.0)


def _operations(operations: Sequence[Operation], seconds: float) -> Iterator[Row]:
    counts = Counter((operation.kind in READS, operation.outcome) for operation in operations)
    acknowledged = counts[False, "ok"] + counts[True, "ok"]
    keys = Counter(operation.key for operation in operations if operation.key)
    yield "seconds", f"{seconds:,.0f}"
    yield "requests acknowledged", f"{acknowledged:,}, {acknowledged / seconds:,.0f} a second"
    yield "of them writes", f"{counts[False, 'ok']:,}"
    yield "requests refused", f"{counts[False, 'refused'] + counts[True, 'refused']:,}"
    yield "writes in doubt", f"{counts[False, 'unknown']:,}"
    yield "reads without an answer", f"{counts[True, 'unknown']:,}"
    repeated = sum(sent > 1 for sent in keys.values())
    yield "idempotency keys", f"{len(keys):,}, sent more than once {repeated:,}"


def _faults(faults: Sequence[Fault], seconds: float) -> Iterator[Row]:
    kills = sum(fault.kind in KILLS for fault in faults)
    yield "`kill -9`", f"{kills:,}, {kills / seconds * 60:.1f} a minute"
    yield "other faults", f"{len(faults) - kills:,}"
    spans: dict[tuple[str, str], list[float]] = defaultdict(list)
    for fault in faults:
        if fault.recovered:
            spans[fault.kind, fault.victim.split("-")[0]].append(fault.ended - fault.began)
    for (kind, victim), each in sorted(spans.items()):
        low, high = percentile(each, 0.5), percentile(each, 0.99)
        yield f"{victim} serves again after {kind}", f"p50 {low:.2f} s, p99 {high:.2f} s ({len(each):,} times)"


def _visibility(history: History) -> Iterator[Row]:
    """How long after its acknowledgement a write was in the answers of each reader."""
    during: list[float] = []
    outside: list[float] = []
    spans = _merged((fault.began, fault.ended) for fault in history.faults)
    begins = [began for began, _ in spans]
    readers: dict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.kind in READS and operation.outcome == "ok" and operation.process:
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
    for name, values in (("outside faults", outside), ("during faults", during)):
        if values:
            low, high = percentile(values, 0.5) * 1000, percentile(values, 0.99) * 1000
            shown = f"p50 {low:,.0f} ms, p99 {high:,.0f} ms ({len(values):,} samples)"
            yield f"acknowledged but not visible at a reader, {name}", shown


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans of time that do not overlap, in order."""
    merged: list[tuple[float, float]] = []
    for began, ended in sorted(spans):
        if merged and began <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], ended))
        else:
            merged.append((began, ended))
    return merged
