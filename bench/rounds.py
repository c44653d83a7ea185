"""Comparing two servers in turn, so that what else the machine does strikes both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bench import usage, wrk
from bench.wrk import Requests, Run


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: the size of the data, the length and number of rounds."""

    tweets: int = 1_000_000
    users: int = 100_000
    seconds: float = 2.0
    warm_up_seconds: float = 1.0
    rounds: int = 5
    backlog: int = 40_000
    connections: int = 64

    @property
    def few(self) -> Scale:
        """Fewer rounds, for what takes long or has no target."""
        return replace(self, rounds=min(3, self.rounds))


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server, what it is asked, and the processes whose use of processors is noted."""

    url: str
    requests: Requests
    pids: Mapping[str, int]

    def run(self, *, seconds: float, connections: int, seed: int) -> tuple[Run, dict[str, float]]:
        """Let it answer, and say which share of a core its processes used."""
        with usage.cpu_shares(self.pids) as shares:
            found = wrk.run(self.url, self.requests, seconds=seconds, connections=connections, seed=seed)
        return found, shares


@dataclass(slots=True)
class Comparison:
    """The runs of two contestants."""

    ours: list[Run] = field(default_factory=list)
    theirs: list[Run] = field(default_factory=list)
    shares: dict[str, Any] = field(default_factory=dict)

    @property
    def rates(self) -> list[tuple[float, float]]:
        """Requests a second, ours and theirs, of each round."""
        return [(ours.rate, theirs.rate) for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    @property
    def beside(self) -> dict[str, Any]:
        """What a figure notes beside its ratio: of the last round."""
        return {
            "requests_per_second": [run.rate for run in self.ours],
            "baseline_requests_per_second": [run.rate for run in self.theirs],
            "failed": sum(run.failed for run in self.ours),
            "closed_loop_ms": {"p50": self.ours[-1].p50_ms, "p99": self.ours[-1].p99_ms},
            "generator_cpu": max(run.generator_cpu for run in (*self.ours, *self.theirs)),
            "cpu": self.shares,
        }


def compare(ours: Contestant, theirs: Contestant, scale: Scale) -> Comparison:
    """Warm both up, then measure them in turn; who begins changes every round."""
    comparison = Comparison()
    for contestant in (ours, theirs):
        wrk.warm_up(contestant.url, contestant.requests, seconds=scale.warm_up_seconds, connections=scale.connections)
    for number in range(1, scale.rounds + 1):
        turns = ((ours, comparison.ours), (theirs, comparison.theirs))
        for contestant, runs in turns if number % 2 else reversed(turns):
            run, shares = contestant.run(seconds=scale.seconds, connections=scale.connections, seed=number)
            runs.append(run)
            comparison.shares |= shares
    return comparison
