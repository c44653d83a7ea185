"""The values of a chart as a table for its README, made from values.yaml.

``python -m tests.charts.values_table`` writes all tables anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.charts.rendering import APPLICATIONS, CHARTS

BEGIN: Final = "<!-- values: written by `python -m tests.charts.values_table` -->"
END: Final = "<!-- end of values -->"
_KEY = re.compile(r"^( *)([A-Za-z][\w-]*):")
_COMMENT = re.compile(r"^ *# ?(.*)$")


@dataclass(frozen=True, slots=True)
class Value:
    """A value that a comment explains; ``default`` is what values.yaml gives it."""

    name: str
    description: str
    default: Any


def read(path: Path) -> list[Value]:
    """All explained values of a values.yaml, in its order."""
    defaults = yaml.safe_load(path.read_text())
    return [Value(name, description, _look_up(defaults, name)) for name, description in _comments(path.read_text())]


def table(path: Path) -> str:
    """The table in Markdown. A value that is a group of others has no row."""
    values = read(path)
    groups = {name for value in values for name in _parents(value.name)}
    rows = [
        f"| `{value.name}` | {value.description} | `{_shown(value.default)}` |"
        for value in values
        if value.name not in groups
    ]
    return "\n".join([BEGIN, "| value | what it is | default |", "| --- | --- | --- |", *rows, END])


def replaced(readme: str, chart: str) -> str:
    """A README with the table of its chart brought up to date."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + table(CHARTS / chart / "values.yaml") + after


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Each key that comments stand above, with its full name."""
    levels: list[tuple[int, str]] = []
    comment: list[str] = []
    for line in text.splitlines():
        if found := _COMMENT.match(line):
            comment.append(found[1])
            continue
        if found := _KEY.match(line):
            indent, key = len(found[1]), found[2]
            levels = [level for level in levels if level[0] < indent] + [(indent, key)]
            if comment:
                yield ".".join(name for _, name in levels), " ".join(comment)
        comment = []


def _look_up(values: Any, name: str) -> Any:
    for key in name.split("."):
        values = values[key]
    return values


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 80 else "see values.yaml"


def main() -> None:
    """Write the tables into the READMEs."""
    for chart in APPLICATIONS:
        readme = CHARTS / chart / "README.md"
        readme.write_text(replaced(readme.read_text(), chart))


if __name__ == "__main__":
    main()
