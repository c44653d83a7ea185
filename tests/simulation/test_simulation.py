"""The simulation repeats itself, keeps all promises on some seeds, and sees the defects that it is there to find."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, RARE, mutated
from tests.simulation.schedule import run

SCHEDULES_MAX = 200
"""Within so many each defect must show, whichever schedules the seeds mean today."""


def test_a_seed_is_a_schedule() -> None:
    """The same seed gives the same trace, event by event."""
    first, again, other = run(5, is_traced=True), run(5, is_traced=True), run(6, is_traced=True)
    assert [without_figures(line) for line in first.trace] == [without_figures(line) for line in again.trace]
    assert first.trace != other.trace


@pytest.mark.parametrize("seed", [2, 7, 12, 22, 27, 40])
def test_promises_are_kept(seed: int) -> None:
    """A few schedules of the many that `make simulate` runs."""
    outcome = run(seed, is_traced=True)
    assert outcome.error is None, "\n".join(outcome.trace)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", sorted(MUTANTS.keys() - RARE))
def test_defect_is_found(mutant: str) -> None:
    """Somebody who puts this defect into the code is told so."""
    with mutated(mutant):
        assert any(run(seed).error is not None for seed in range(1, SCHEDULES_MAX))


def without_figures(line: str) -> str:
    """A line of a trace without what is measured by a real clock, or made by real chance."""
    return line.partition(" seconds=")[0].partition("schedule-")[0]
