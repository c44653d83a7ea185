"""A share of a core for a process, by the kernel's own quota (cgroup v1 or v2; needs root)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PERIOD_US: Final = 20_000
_V1: Final = Path("/sys/fs/cgroup/cpu")
_V2: Final = Path("/sys/fs/cgroup")


class NoCgroups(Exception):
    """This user may not make cgroups here."""


@contextmanager
def limited(pid: int, share: float) -> Iterator[None]:
    """Give a process at most this share of a core, in periods of 20 ms. Raises NoCgroups."""
    root, quota_us = _root(), round(_PERIOD_US * share)
    group = root / f"twitter-bench-{os.getpid()}-{pid}"
    try:
        group.mkdir()
    except OSError as error:
        raise NoCgroups(f"{group} cannot be made: {error}") from error
    try:
        if root == _V1:
            (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        else:
            (group / "cpu.max").write_text(f"{quota_us} {_PERIOD_US}")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        if (group / "cgroup.procs").read_text():
            (root / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def _root() -> Path:
    if (_V1 / "cpu.cfs_quota_us").exists():
        return _V1
    if "cpu" in (_V2 / "cgroup.subtree_control").read_text().split():
        return _V2
    raise NoCgroups(f"no quota of processor time below {_V2}")
