"""Labelled places at which a test can make a process crash, fail or stall. In production nothing is ever armed.

A label names what has just been done, or (``before``) what comes next: ``archive:before_fsync``. The tests find all of
them in the code, and each must have a scenario. None is inside a loop over rows.
"""

from __future__ import annotations

from collections.abc import Callable

armed: Callable[[str], None] | None = None
"""What a test's process calls at every label."""


def reach(label: str) -> None:
    """Say that this process is at a label: one test of an attribute when nothing is armed."""
    if armed is not None:
        armed(label)
