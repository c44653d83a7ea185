"""``python -m tests.torture.check FILE``: judge the history of a run again, and show its figures.

With ``--page docs/durability.md`` they are put there, too, in place of those of the run before.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from tests.torture.checker import Violation, check
from tests.torture.history import History, read_records
from tests.torture.summary import Row, summary

SHOWN_OF_A_KIND: Final = 5
SHOWN_CHARS: Final = 400
_BEGIN: Final = "<!-- torture -->"
_END: Final = "<!-- end -->"


def judge(path: Path, page: Path | None = None) -> int:
    """Print what was found; 1 if anything was violated, else 0."""
    history = History.of(read_records(path))
    rows = list(summary(history))
    print(text(rows))  # noqa: T201 - a program
    violations = check(history)
    print(report(violations))  # noqa: T201
    if page is not None:
        counts = Counter(violation.kind for violation in violations)
        found = ", ".join(f"{kind} {count:,}" for kind, count in counts.items())
        table = markdown([*rows, ("lost, doubled, shown wrong, or anything else broken", found or "none")])
        page.write_text(with_table(page.read_text(encoding="utf-8"), table), encoding="utf-8")
    return 1 if violations else 0


def text(rows: list[Row]) -> str:
    """The figures, a line each."""
    return "\n".join(f"{name}: {value}" for name, value in rows)


def markdown(rows: list[Row]) -> str:
    """The figures as a table."""
    return "\n".join(["| what | figure |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def with_table(page: str, table: str) -> str:
    """The page with this table between its marks. Raises ValueError if it has none."""
    pattern = re.compile(f"{_BEGIN}.*?{_END}", re.DOTALL)
    new, count = pattern.subn(lambda _: f"{_BEGIN}\n{table}\n{_END}", page)
    if count != 1:
        raise ValueError(f"{_BEGIN} is there {count} times")
    return new


def report(violations: list[Violation]) -> str:
    """How many violations there are of each kind, and the first of each."""
    if not violations:
        return "no violation: nothing lost, nothing doubled, every read true, all copies equal"
    counts = Counter(violation.kind for violation in violations)
    lines = []
    for kind, count in counts.items():
        lines.append(f"VIOLATED {kind}: {count}")
        found = [violation.text for violation in violations if violation.kind == kind]
        lines += [f"    {shown[:SHOWN_CHARS]}" for shown in found[:SHOWN_OF_A_KIND]]
    return "\n".join(lines)


def main() -> int:
    """Returns how the process exits."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.check")
    parser.add_argument("history", type=Path)
    parser.add_argument("--page", type=Path, help="the page whose table is to show this run")
    options = parser.parse_args()
    return judge(options.history, options.page)


if __name__ == "__main__":
    sys.exit(main())
