"""What a check says."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["fine", "advice", "action"]


class Finding(msgspec.Struct, frozen=True):
    """The outcome of one check. ``remedy`` is what to do, null where all is fine; only ``action`` is counted."""

    check: str
    level: Level
    what: str
    remedy: str | None = None


def fine(check: str, what: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "fine", what)


def advice(check: str, what: str, remedy: str) -> Finding:
    """It works, and could be better."""
    return Finding(check, "advice", what, remedy)


def action(check: str, what: str, remedy: str) -> Finding:
    """Somebody has to do something."""
    return Finding(check, "action", what, remedy)
