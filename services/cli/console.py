"""What the commands print through: results to stdout, progress and complaints to stderr."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) != "\t"}


def out() -> Console:
    """The console for results. Made per use, so that a redirected stdout is respected."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """The console for progress, warnings and errors."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def plain(text: str) -> str:
    """The text without what could break the line or talk to the terminal; tabs stay."""
    return text.translate(_CONTROLS)


def say(message: str) -> None:
    """A remark to the person at the terminal; never part of a result."""
    err().print(message, markup=False)


def print_json(result: Any) -> None:
    """One result as JSON with sorted keys, on stdout and nothing else."""
    encoded = msgspec.json.format(msgspec.json.encode(result, order="sorted"), indent=2)
    typer.echo(encoded)


def progress(*, hidden: bool = False) -> Progress:
    """A progress bar on stderr: what, how far of how much, how long."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err(),
        disable=hidden,
    )
