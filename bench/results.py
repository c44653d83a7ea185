"""Results: what a run of the benchmark found, as it is kept in bench/results and compared with the next."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from bench.machine import Machine

_IS_MET: Final[dict[str, Callable[[float, float], bool]]] = {">=": operator.ge, "<=": operator.le}


class Target(msgspec.Struct, frozen=True):
    """What a figure has to be."""

    relation: Literal[">=", "<="]
    value: float

    def is_met_by(self, figure: float) -> bool:
        """Whether the figure is good enough."""
        return _IS_MET[self.relation](figure, self.value)

    def __str__(self) -> str:
        return f"{'≥' if self.relation == '>=' else '≤'} {self.value:g}"


def at_least(value: float) -> Target:
    """For what should be large."""
    return Target(">=", value)


def at_most(value: float) -> Target:
    """For what should be small."""
    return Target("<=", value)


class Figure(msgspec.Struct, frozen=True):
    """One row of the table: the median over the rounds, and the least and the most of them.

    ``unit`` is ``ratio`` for what ``bench check`` may compare between machines. ``rounds`` are the pairs (ours,
    baseline) in the order measured, ``beside`` whatever else was seen, such as processor time and latencies.
    """

    name: str
    what: str
    baseline: str
    value: float
    least: float
    most: float
    unit: str = "ratio"
    target: Target | None = None
    rounds: list[tuple[float, float]] = []
    beside: dict[str, Any] = {}
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.target.is_met_by(self.value)


class Series(msgspec.Struct, frozen=True):
    """How something grows: pairs of a size (``over`` says of what) and what was measured there."""

    name: str
    what: str
    over: str
    unit: str
    points: list[tuple[float, float]]


class Results(msgspec.Struct, frozen=True):
    """One run: when, where, at which size, and what was found. ``failures`` are scenarios, with the kind of error."""

    began_at: str
    seconds: float
    machine: Machine
    scale: dict[str, Any]
    figures: list[Figure] = []
    series: list[Series] = []
    failures: dict[str, str] = {}

    def figure(self, name: str) -> Figure | None:
        """The figure with this name."""
        return next((figure for figure in self.figures if figure.name == name), None)


def ratio_figure(
    name: str,
    what: str,
    baseline: str,
    rounds: Sequence[tuple[float, float]],
    target: Target | None = None,
    *,
    beside: dict[str, Any] | None = None,
    note: str = "",
) -> Figure:
    """A figure of pairs (ours, baseline), by the ratio within each round."""
    ratios = [ours / theirs for ours, theirs in rounds]
    return Figure(
        name=name,
        what=what,
        baseline=baseline,
        value=round(statistics.median(ratios), 3),
        least=round(min(ratios), 3),
        most=round(max(ratios), 3),
        target=target,
        rounds=[(round(ours, 4), round(theirs, 4)) for ours, theirs in rounds],
        beside=beside or {},
        note=note,
    )


def measured_figure(
    name: str,
    what: str,
    values: Sequence[float],
    unit: str,
    target: Target | None = None,
    *,
    beside: dict[str, Any] | None = None,
    note: str = "",
) -> Figure:
    """A figure that stands for itself."""
    return Figure(
        name=name,
        what=what,
        baseline="",
        value=round(statistics.median(values), 3),
        least=round(min(values), 3),
        most=round(max(values), 3),
        unit=unit,
        target=target,
        beside=beside or {},
        note=note,
    )


def load(path: Path) -> Results:
    """Read results."""
    return msgspec.json.decode(path.read_bytes(), type=Results)


def save(results: Results, path: Path) -> None:
    """Write results, for people too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def table(figures: Sequence[Figure]) -> str:
    """The figures as a table of Markdown."""
    lines = ["| what | baseline | target | median | least to most | |", "| --- | --- | --- | --- | --- | --- |"]
    for figure in figures:
        unit = "" if figure.unit == "ratio" else f" {figure.unit}"
        verdict = {True: "met", False: "**missed**", None: ""}[figure.is_met]
        lines.append(
            f"| {figure.what} | {figure.baseline or '—'} | {figure.target or '—'} | {figure.value:,.3g}{unit} "
            f"| {figure.least:,.3g} to {figure.most:,.3g} | {verdict} |"
        )
    return "\n".join(lines)


DROP_MIN: Final = 0.07
"""A change that two runs of the same code on one machine show, whatever the spread within a run."""


def drops(before: Results, now: Results) -> list[str]:
    """The ratios that got worse by more than the noise: the spread of both runs, and never less than DROP_MIN."""
    found = []
    for old in before.figures:
        new = now.figure(old.name)
        if new is None or old.unit != "ratio":
            continue
        is_good_large = old.target is None or old.target.relation == ">="
        spread = max((each.most - each.least) / 2 / each.value for each in (old, new))
        allowed = max(DROP_MIN, spread)
        change = new.value / old.value - 1 if is_good_large else old.value / new.value - 1
        if change < -allowed:
            found.append(
                f"{old.name}: {old.value:.3f} before, {new.value:.3f} now ({change:+.0%}, noise {allowed:.0%})"
            )
    return found
