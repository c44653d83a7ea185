"""``python -m bench.growth``: how cost grows with data, connections, batches, readers and the length of the log.

A curve that bends upward is a defect. One system for each size of the data; absolute figures, so only their course over
one run says something.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from bench import results, wrk
from bench.backlog import Backlog, append
from bench.cgroup import limited
from bench.command import society_of
from bench.data import STEP, chunks
from bench.machine import LOAD_CORE, describe
from bench.results import Figure, Results, Series
from bench.rounds import Scale
from bench.scenarios import applying, home, size
from bench.scenarios.context import Context
from bench.scenarios.writing import tweets
from bench.system import BenchSystem
from bench.wrk import Requests

TWEETS: Final = (10_000, 100_000, 1_000_000, 10_000_000)
TWEETS_PER_USER: Final = 10
CONNECTIONS: Final = (1, 64, 1024)
BATCHES: Final = (1, 8, 64, 512)
READERS: Final = 8
READER_SHARE: Final = 0.1
LOG_LENGTHS: Final = (1_000, 10_000, 100_000, 200_000)
PROBES: Final = 2_000

T = TypeVar("T")

Points = list[tuple[float, float]]


def by_data(scale: Scale, directory: Path) -> list[Series]:
    """Reads, posts, followers, memory and start over the number of tweets."""
    curves: dict[tuple[str, str], Points] = {}
    for count in TWEETS:
        if count > scale.tweets:
            break
        sized = replace(scale, tweets=count, users=count // TWEETS_PER_USER)
        with _system(sized, directory / str(count)) as system:
            context = Context(system, directory / f"{count}-files", sized)
            for name, unit, value in _at_this_size(context):
                curves.setdefault((name, unit), []).append((count, value))
    return [Series(name, name, "tweets", unit, points) for (name, unit), points in sorted(curves.items(), key=_unit)]


def by_connections(context: Context) -> list[Series]:
    """Hot reads and posts over the number of connections."""
    system = context.system
    hot = Requests("/tweets/", system.society.tweet_id(0))
    posts = tweets(context)
    with system.paused(system.owner):
        with system.measured(system.reader):
            reads = [(count, _rate(context, system.reader.url, hot, count)) for count in CONNECTIONS]
        with system.measured(system.writer):
            writes = [(count, _rate(context, system.writer.url, posts, count)) for count in CONNECTIONS]
    system.wait_until_even()
    return [
        Series("connections_read", "GET of a hot tweet", "connections", "requests/s", _floats(reads)),
        Series("connections_post", "POST of a tweet", "connections", "requests/s", _floats(writes)),
    ]


def by_batch(context: Context) -> list[Series]:
    """Entries appended a second over how many share a call and a fsync."""
    system = context.system
    backlog = Backlog(system.society, seed=2)
    points: Points = []
    with system.paused(system.owner, system.reader), closing(system.log()) as log:
        for batch in BATCHES:
            events = backlog.events(min(PROBES * batch, 20_000) // 4)
            began_at = time.perf_counter()
            for some in chunks(events, batch):
                list(append(log, some))
            points.append((batch, round(len(events) / (time.perf_counter() - began_at))))
    system.wait_until_even()
    return [Series("batch", "appended by one client", "entries in a call", "entries/s", points)]


def by_log_length(context: Context) -> list[Series]:
    """How long an append of one entry and the read of the newest hundred take, over the entries in the log."""
    system = context.system
    backlog = Backlog(system.society, seed=3)
    appends: Points = []
    reads: Points = []
    with system.paused(system.owner, system.reader), closing(system.log()) as log:
        length = log.status().length
        for goal in LOG_LENGTHS:
            written = backlog.append(log, max(0, goal - length)) or backlog.append(log, 1)
            length = max(goal, length + 1)
            events = backlog.events(PROBES // 4)
            newest = written[-min(100, len(written))][0]
            appends.append((goal, _micros_each(lambda event: list(append(log, [event])), events)))
            reads.append((goal, _micros_each(lambda position: log.read(position, entries_max=100), [newest] * 200)))
    system.wait_until_even()
    return [
        Series("log_append", "append one entry", "entries in the log", "µs", appends),
        Series("log_read", "read the newest 100", "entries in the log", "µs", reads),
    ]


def by_readers(context: Context) -> list[Series]:
    """Reads a second of one to eight readers with a tenth of a core each."""
    system, scale = context.system, context.scale
    requests = Requests("/tweets/", system.society.tweet_id(0), STEP, min(1000, system.society.tweets))
    points: Points = []
    with ExitStack() as opened:
        every = opened.enter_context(size.measured_readers(system, READERS))
        for reader in every:
            wrk.warm_up(reader.url, requests, seconds=scale.warm_up_seconds, connections=16)
            opened.enter_context(limited(reader.pid, READER_SHARE))
        for count in (1, 2, 4, READERS):
            points.append((count, round(size.rate_of(every[:count], requests, scale.seconds, count)[0], 1)))
    return [Series("readers", f"readers with {READER_SHARE} core each", "readers", "requests/s", points)]


PARTS: Final[tuple[Callable[[Context], list[Series]], ...]] = (by_connections, by_batch, by_readers, by_log_length)


def main() -> None:
    """Measure the curves and write them down."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--output", type=Path, help="where the results are written, as JSON")
    parser.add_argument("--tweets", type=int, default=1_000_000, help="the largest size of the data; up to 10,000,000")
    parser.add_argument("--backlog", type=int, default=40_000, help="events to catch up with")
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    found = run(Scale(tweets=options.tweets, rounds=1, seconds=2, backlog=options.backlog))
    if options.output:
        results.save(found, options.output)
    for series in found.series:
        sys.stdout.write(f"{series.what} ({series.unit}): {series.points}\n")
    if found.failures:
        sys.exit(1)


def run(scale: Scale) -> Results:
    """All curves: those over the data first, the others on the smallest."""
    began_at, began, machine = datetime.now(UTC), time.monotonic(), describe()
    directory = Path(tempfile.mkdtemp(prefix="twitter-growth-"))
    try:
        smallest = replace(scale, tweets=TWEETS[0], users=TWEETS[0] // TWEETS_PER_USER)
        series, failures = _attempt({"by_data": lambda: by_data(scale, directory)})
        with _system(smallest, directory / "smallest") as system:
            context = Context(system, directory / "files", smallest)
            others = _attempt({part.__name__: partial(part, context) for part in PARTS})
    finally:
        shutil.rmtree(directory)
    return Results(
        began_at=began_at.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
        machine=machine,
        scale=asdict(scale),
        series=series + others[0],
        failures=failures | others[1],
    )


def _attempt(parts: Mapping[str, Callable[[], list[Series]]]) -> tuple[list[Series], dict[str, str]]:
    """The curves of all parts, and which parts failed: one must not cost the curves of the others."""
    series: list[Series] = []
    failures: dict[str, str] = {}
    for name, part in parts.items():
        try:
            series += part()
        except Exception as error:  # noqa: BLE001 - it is told, and the program exits with 1
            failures[name] = type(error).__name__
            sys.stderr.write("".join(traceback.format_exception(error)))
    return series, failures


def _at_this_size(context: Context) -> Iterator[tuple[str, str, float]]:
    """(what, unit, value)."""
    system, society = context.system, context.system.society
    any_tweet = Requests("/tweets/", society.tweet_id(0), STEP, society.tweets)
    any_author = Requests("/users/", society.user_id(0), STEP, society.users, suffix="/tweets?limit=20")
    with system.measured(system.reader):
        yield "GET of any tweet", "requests/s", _rate(context, system.reader.url, any_tweet, 64)
        yield "GET of any author's tweets", "requests/s", _rate(context, system.reader.url, any_author, 64)
        yield "GET of a home timeline", "requests/s", _rate(context, system.reader.url, home.first_time(society, 0), 16)
    with system.measured(system.writer), system.paused(system.owner):
        yield "POST of a tweet", "requests/s", _rate(context, system.writer.url, tweets(context), 64)
    system.wait_until_even()
    owner, replica = applying.catching_up(context)
    yield "owner catching up", "events/s", _first(owner)
    yield "replica catching up", "events/s", _first(replica)
    memory, _, start = size.footprint(context)
    yield "anonymous memory of a reader", "MB", memory.value
    yield "start of a reader to ready", "s", start.value


def _rate(context: Context, url: str, requests: Requests, connections: int) -> float:
    wrk.warm_up(url, requests, seconds=1, connections=connections)
    return wrk.run(url, requests, seconds=context.scale.seconds, connections=connections, seed=1).rate


def _first(figure: Figure) -> float:
    return round(figure.rounds[0][0])


def _micros_each(work: Callable[[T], object], items: Sequence[T]) -> float:
    began_at = time.perf_counter()
    for item in items:
        work(item)
    return round((time.perf_counter() - began_at) / len(items) * 1e6, 1)


def _floats(points: list[tuple[int, float]]) -> Points:
    return [(float(x), y) for x, y in points]


def _unit(curve: tuple[tuple[str, str], Points]) -> str:
    return curve[0][1]


@contextmanager
def _system(scale: Scale, directory: Path) -> Iterator[BenchSystem]:
    system = BenchSystem(directory, society_of(scale))
    try:
        system.start()
        yield system
    finally:
        system.close()


if __name__ == "__main__":
    main()
