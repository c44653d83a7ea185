"""``python -m tests.torture.check FILE``: judge the history of a run again, and show its figures."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from tests.torture.checker import Violation, check
from tests.torture.history import History, read_records
from tests.torture.summary import summary

SHOWN_OF_A_KIND = 5
SHOWN_CHARS = 400


def judge(path: Path) -> int:
    """Print what was found; 1 if anything was violated, else 0."""
    history = History.of(read_records(path))
    print(summary(history))  # noqa: T201 - a program
    violations = check(history)
    print(report(violations))  # noqa: T201
    return 1 if violations else 0


def report(violations: list[Violation]) -> str:
    """How many violations there are of each kind, and the first of each."""
    if not violations:
        return "no violation: nothing lost, nothing doubled, every read true, all copies equal"
    counts = Counter(violation.kind for violation in violations)
    lines = []
    for kind, count in counts.items():
        lines.append(f"VIOLATED {kind}: {count}")
        found = [violation.text for violation in violations if violation.kind == kind]
        lines += [f"    {text[:SHOWN_CHARS]}" for text in found[:SHOWN_OF_A_KIND]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(judge(Path(sys.argv[1])))
