"""What the tests of the cluster have measured, for the end of their output."""

from __future__ import annotations

from collections.abc import Callable

Figures = Callable[[str], None]
