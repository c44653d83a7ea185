"""``python -m bench.report`` writes the tables and plots of docs/performance.md from bench/results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from bench import plots, results
from bench.machine import Machine
from bench.results import Results, Series
from tests.support.process import REPOSITORY

PAGE: Final = REPOSITORY / "docs" / "performance.md"
PLOTS: Final = REPOSITORY / "docs" / "plots"
BENCH: Final = REPOSITORY / "bench" / "results" / "bench.json"
GROWTH: Final = REPOSITORY / "bench" / "results" / "growth.json"
_TARGETS: Final = "targets.svg"


def page_with_results(page: str) -> str:
    """The page with its marked parts made anew from the results that are kept."""
    if BENCH.exists():
        page = _replaced(page, "results", _run(results.load(BENCH)))
    if GROWTH.exists():
        page = _replaced(page, "growth", _growth(results.load(GROWTH)))
    return page


def drawn() -> Iterator[tuple[Path, str]]:
    """The plots: where each is, and its SVG."""
    if BENCH.exists():
        yield PLOTS / _TARGETS, plots.bars(results.load(BENCH).figures)
    if GROWTH.exists():
        for name, some in _charts(results.load(GROWTH)):
            yield PLOTS / name, plots.lines(some)


def main() -> None:
    """Write them."""
    PLOTS.mkdir(exist_ok=True)
    PAGE.write_text(page_with_results(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    for path, svg in drawn():
        path.write_text(svg, encoding="utf-8")


def _run(found: Results) -> str:
    """Where and when, the plot, the table."""
    missing = [f"Not measured, as the scenario failed: {name} ({why})." for name, why in sorted(found.failures.items())]
    plot = f"![Figures against their targets](plots/{_TARGETS})"
    return "\n\n".join([_machine(found), plot, results.table(found.figures), *missing])


def _growth(found: Results) -> str:
    """The same for the curves."""
    lines = [_machine(found), ""]
    lines += [f"![{some[0].unit} over {some[0].over}](plots/{name})\n" for name, some in _charts(found)]
    lines += ["| what | over | measured |", "| --- | --- | --- |"]
    for series in found.series:
        points = ", ".join(f"{x:,.0f}: {y:,.1f}" for x, y in series.points)
        lines.append(f"| {series.what} ({series.unit}) | {series.over} | {points} |")
    return "\n".join(lines)


def _charts(found: Results) -> Iterator[tuple[str, list[Series]]]:
    """Curves of one quantity in one unit together, each with the name of its file."""
    for (over, unit), some in groupby(found.series, lambda each: (each.over, each.unit)):
        yield f"growth-{re.sub(r'[^a-z]+', '-', f'{over} {unit}'.lower()).strip('-')}.svg", list(some)


def _machine(found: Results) -> str:
    of: Machine = found.machine
    scale = ", ".join(f"{name} {value:,}" for name, value in found.scale.items())
    return (
        f"Measured {found.began_at} at commit `{of.commit}` in {found.seconds:.0f} s, on {of.cores} cores of {of.cpu} "
        f"with {of.memory_gib} GiB, Linux {of.kernel}; load average before it {of.load_average}. Python {of.python}, "
        f"SQLite {of.sqlite}, {of.valkey}, {of.wrk}. Scale: {scale}."
    )


def _replaced(page: str, name: str, content: str) -> str:
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
    assert pattern.search(page), f"the page has no part {name}"
    return pattern.sub(lambda found: f"{found[1]}{content}\n{found[2]}", page, count=1)


if __name__ == "__main__":
    main()
