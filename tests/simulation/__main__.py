"""Run schedules: ``python -m tests.simulation --seeds 1000``, or one with its trace: ``--seed 7``."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.schedule import Outcome, run


@dataclass(frozen=True, slots=True)
class Result:
    """What a process tells of a schedule. ``why`` is what went wrong, or empty."""

    seed: int
    why: str
    virtual_seconds: float
    counts: tuple[int, int, int, int]
    """Steps, entries, reads, entries taken from Redis."""
    cpu_seconds: float


def main() -> int:
    """Returns how the process exits."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, help="run this one only, and print what happens")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many run at once")
    parser.add_argument("--keep-going", action="store_true", help="run the rest after a failure")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with this defect in the project's code")
    options = parser.parse_args()
    with mutated(options.mutant) if options.mutant else nullcontext():
        return _show(run(options.seed, is_traced=True)) if options.seed is not None else _run_many(options)


def _run_many(options: argparse.Namespace) -> int:
    until = time.monotonic() + options.seconds
    results, failures = [], 0
    with _results(range(options.first, options.first + options.seeds), options.processes) as simulated:
        for result in simulated:
            results.append(result)
            if result.why:
                failures += 1
                print(f"seed {result.seed}: {result.why}", flush=True)
                print(f"  replay: make simulate SEED={result.seed}", flush=True)
            if (result.why and not options.keep_going) or time.monotonic() > until:
                break
    seconds = sum(result.cpu_seconds for result in results)
    steps, entries, reads, losses = map(sum, zip(*(result.counts for result in results), strict=True))
    print(
        f"{len(results)} schedules in {seconds:.0f} s of CPU ({len(results) / seconds * 60:.0f} a minute), "
        f"{sum(result.virtual_seconds for result in results) / 3600:.1f} h of virtual time, {steps} steps, "
        f"{entries} entries, {reads} reads, {losses} entries taken from Redis; {failures} failed"
    )
    return 1 if failures else 0


@contextmanager
def _results(seeds: range, processes: int) -> Iterator[Iterator[Result]]:
    """The results in the order of their seeds; what has not begun when the block ends is left out."""
    run(0)
    gc.freeze()  # what a schedule leaves is collected after it, and quickly so
    # Forked, they have all this at once, and a defect that was put into the code.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            yield pool.map(_simulate, seeds)
        finally:
            pool.shutdown(cancel_futures=True)


def _simulate(seed: int) -> Result:
    began = time.process_time()
    outcome = run(seed)
    why = "" if outcome.error is None else f"{type(outcome.error).__name__}: {outcome.error}"
    counts = (outcome.steps, outcome.entries, outcome.reads, outcome.losses)
    return Result(seed, why, outcome.seconds, counts, time.process_time() - began)


def _show(outcome: Outcome) -> int:
    print("\n".join(outcome.trace))
    if outcome.error is None:
        print(f"seed {outcome.seed}: no promise broken")
        return 0
    traceback.print_exception(outcome.error)
    return 1


if __name__ == "__main__":
    sys.exit(main())
