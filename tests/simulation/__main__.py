"""Run schedules: ``python -m tests.simulation --seeds 1000``, or one with its trace: ``--seed 7``."""

from __future__ import annotations

import argparse
import gc
import sys
import time
import traceback
from contextlib import nullcontext

from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.schedule import Outcome, run


def main() -> int:
    """Returns how the process exits."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, help="run this one only, and print what happens")
    parser.add_argument("--seeds", type=int, default=1000, help="how many to run")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--keep-going", action="store_true", help="run the rest after a failure")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="with this defect in the project's code")
    options = parser.parse_args()
    with mutated(options.mutant) if options.mutant else nullcontext():
        return _show(run(options.seed, is_traced=True)) if options.seed is not None else _run_many(options)


def _run_many(options: argparse.Namespace) -> int:
    run(0)
    gc.freeze()  # what a schedule leaves is collected after it, and quickly so
    started_at, failures, outcomes = time.process_time(), [], 0
    totals = [0, 0, 0, 0]
    virtual_seconds = 0.0
    for seed in range(options.first, options.first + options.seeds):
        if time.process_time() - started_at > options.seconds:
            break
        outcome = run(seed)
        outcomes += 1
        virtual_seconds += outcome.seconds
        counts = (outcome.steps, outcome.entries, outcome.reads, outcome.losses)
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        if outcome.error is not None:
            failures.append(outcome)
            print(f"seed {seed}: {type(outcome.error).__name__}: {outcome.error}", flush=True)
            print(f"  replay: make simulate SEED={seed}", flush=True)
            if not options.keep_going:
                break
    seconds = time.process_time() - started_at
    print(
        f"{outcomes} schedules in {seconds:.0f} s ({outcomes / seconds * 60:.0f} a minute), "
        f"{virtual_seconds / 3600:.1f} h of virtual time, {totals[0]} steps, {totals[1]} entries, {totals[2]} reads, "
        f"{totals[3]} entries taken from Redis; {len(failures)} failed"
    )
    return 1 if failures else 0


def _show(outcome: Outcome) -> int:
    print("\n".join(outcome.trace))
    if outcome.error is None:
        print(f"seed {outcome.seed}: no promise broken")
        return 0
    traceback.print_exception(outcome.error)
    return 1


if __name__ == "__main__":
    sys.exit(main())
