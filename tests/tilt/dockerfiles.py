"""What a Dockerfile says, stage by stage."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from tests.support.process import REPOSITORY

Instruction = tuple[str, str]


def stages(path: Path) -> dict[str, list[Instruction]]:
    """The instructions of each stage after its FROM; the last stage, the one that is published, has no name."""
    lines = re.sub(r"(?m)^#.*\n", "", path.read_text()).replace("\\\n", " ").splitlines()
    found: dict[str, list[Instruction]] = {}
    for name, _, rest in (line.partition(" ") for line in lines if line):
        if name == "FROM":
            current = found.setdefault(rest.partition(" AS ")[2], [])
        elif found:
            current.append((name, rest))
    return found


def copied_from_context(path: Path) -> set[str]:
    """What the build needs of its context; patterns stay patterns."""
    copies = [rest.split() for stage in stages(path).values() for name, rest in stage if name == "COPY"]
    return {source.rstrip("/") for copy in copies if not copy[0].startswith("--from") for source in copy[:-1]}


def is_let_in(path: str) -> bool:
    """Whether .dockerignore, which keeps everything out, makes an exception for what has this path."""
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    return any(fnmatch(path, f"{line[1:]}*") for line in lines if line.startswith("!"))


def entrypoint(stage: Sequence[Instruction]) -> list[str]:
    """The ENTRYPOINT of a stage."""
    words: list[str] = json.loads(dict(stage)["ENTRYPOINT"])
    return words
