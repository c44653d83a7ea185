"""The projection: a pure function from the log to the public tables, the same on every copy."""

from services.common.projection.apply import AppliedBatch, Touched, apply
from services.common.projection.database import (
    COPIED,
    AppliedState,
    applied,
    create_tables,
    is_made,
    made_by,
    read_state,
    table_hashes,
)
from services.common.projection.dead_letters import dead_letter
from services.common.projection.touched import touched_by

__all__ = [
    "COPIED",
    "AppliedBatch",
    "AppliedState",
    "Touched",
    "applied",
    "apply",
    "create_tables",
    "dead_letter",
    "is_made",
    "made_by",
    "read_state",
    "table_hashes",
    "touched_by",
]
