"""The Lua scripts that run inside Redis; each states its keys, arguments and answer at its top."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def load(name: str, *, appends: bool = False) -> str:
    """The text of a script; one that appends has the arithmetic of positions in front of it."""
    folder = resources.files(__name__)
    names = ("position", name) if appends else (name,)
    return "\n".join((folder / f"{each}.lua").read_text(encoding="utf-8") for each in names)
