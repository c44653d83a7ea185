"""The command line: run scenarios, compare results, draw plots."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import results
from bench.data import Society
from bench.machine import LOAD_CORE, describe
from bench.results import Figure, Results
from bench.rounds import Scale
from bench.scenarios import applying, freshness, generator, home, mix, peers, reading, size, writing
from bench.scenarios.context import Context
from bench.system import BenchSystem

Scenario = Callable[[Context], list[Figure]]

SCENARIOS: Final[tuple[Scenario, ...]] = (
    generator.generators,
    reading.tweet_hot,
    reading.tweet_uniform,
    reading.timeline_hot,
    reading.timeline_uniform,
    home.home,
    writing.post,
    writing.post_alone,
    writing.like,
    applying.catching_up,
    freshness.reading_under_writes,
    freshness.visible,
    size.readers,
    size.footprint,
    mix.mix,
    peers.seed_way,
    peers.mastodon_mock,
)
"""Reads first: what a home timeline takes depends on who has written last, and the posts are of a thousand accounts."""

QUICK: Final = Scale(tweets=2_000, users=200, seconds=1, warm_up_seconds=1, rounds=1, backlog=6_000, connections=8)
"""Shows that everything works, and nothing else."""


def main(arguments: list[str] | None = None) -> None:
    """Run what the arguments say. Exits with 1 when a scenario failed or a ratio dropped."""
    options = _parser().parse_args(arguments)
    scale = _scale(options)
    os.sched_setaffinity(0, {LOAD_CORE})
    found = run(_chosen(options.only), scale, say=_say)
    if options.output:
        results.save(found, options.output)
    _say(results.table(found.figures))
    dropped = results.drops(results.load(options.against), found) if options.against else []
    for line in dropped:
        _say(f"dropped: {line}")
    if found.failures or dropped:
        sys.exit(1)


def run(scenarios: Iterable[Scenario], scale: Scale, say: Callable[[str], None] = lambda _line: None) -> Results:
    """Run scenarios one after another on one system."""
    began_at = datetime.now(UTC)
    began = time.monotonic()
    machine = describe()
    figures: list[Figure] = []
    failures: dict[str, str] = {}
    directory = Path(tempfile.mkdtemp(prefix="twitter-bench-"))
    system = BenchSystem(directory / "system", society_of(scale))
    try:
        say(f"{time.monotonic() - began:.0f} s: data")
        system.start()
        say(f"{time.monotonic() - began:.0f} s: system")
        for scenario in scenarios:
            try:
                some = scenario(Context(system, directory / scenario.__name__, scale))
            except Exception as error:  # noqa: BLE001 - one scenario that fails must not cost the figures of the others
                failures[scenario.__name__] = type(error).__name__
                say(f"{scenario.__name__} failed:\n{''.join(traceback.format_exception(error))}")
                continue
            figures += some
            for figure in some:
                say(f"{time.monotonic() - began:.0f} s: {figure.name} {figure.value} {figure.rounds}")
    finally:
        system.close()
        shutil.rmtree(directory)
    return Results(
        began_at=began_at.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
        machine=machine,
        scale=asdict(scale),
        figures=figures,
        failures=failures,
    )


def society_of(scale: Scale) -> Society:
    """The society of a scale: of the readers of home timelines, each follows at most half of the others."""
    return Society(
        scale.tweets, scale.users, followed=min(1000, scale.users // 2), home_readers=min(50, scale.users // 4)
    )


def _chosen(only: str) -> list[Scenario]:
    names = only.split(",") if only else [scenario.__name__ for scenario in SCENARIOS]
    known = {scenario.__name__: scenario for scenario in SCENARIOS}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"no scenario {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names]


def _scale(options: argparse.Namespace) -> Scale:
    scale = QUICK if options.quick else Scale()
    given = {name: getattr(options, name) for name in asdict(scale) if getattr(options, name, None) is not None}
    return replace(scale, **given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", help="names of scenarios, with commas")
    parser.add_argument("--quick", action="store_true", help="tiny data, a second each: shows that everything works")
    parser.add_argument("--output", type=Path, help="where the results are written, as JSON")
    parser.add_argument("--against", type=Path, help="results to compare with: a ratio that drops fails the run")
    parser.add_argument("--tweets", type=int)
    parser.add_argument("--users", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--connections", type=int)
    parser.add_argument("--seconds", type=float, help="the length of a round")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
