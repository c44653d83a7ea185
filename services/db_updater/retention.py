"""How far the log may be trimmed."""

from __future__ import annotations

from services.common.ids import position_at


def trim_position(archived_position: int, now_ms: int, retention_seconds: int, leased_position: int | None) -> int:
    """The greatest position, inclusive, whose entry nobody needs in the log any more.

    It is archived, older than the retention window at ``now_ms`` (Redis's TIME, which positions are made of), and
    not after the oldest snapshot on offer (HAZARDS 4, 19).
    """
    outlived_position = position_at(now_ms - retention_seconds * 1000) - 1
    bounds = [archived_position, outlived_position]
    if leased_position is not None:
        bounds.append(leased_position)
    return min(bounds)
