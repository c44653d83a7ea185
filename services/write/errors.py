"""The write service's own ways to say "later"; the tree they belong to is in services/common/errors.py.

OperationalError
├── LogFull                the log has no memory left for another entry
├── LogNotDurable          Redis may lose what it acknowledges, and that was forbidden
├── AnswerUnavailable      what was done before cannot be shown now
└── Stopping               this process is shutting down
InvariantError
└── WriterFailed           a worker of the group commit died
"""

from __future__ import annotations

from collections.abc import Sequence

from services.common.errors import InvariantError, OperationalError
from services.common.log.durability import Finding


class LogFull(OperationalError):
    """Redis has no memory left for the log; nothing was written."""

    code = "log_full"
    retry_after_seconds = 5


class LogNotDurable(OperationalError):
    """LOG_DURABILITY=required, and this Redis may lose what it acknowledges; nothing was written."""

    code = "log_not_durable"
    retry_after_seconds = 5

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("LOG_DURABILITY=required: " + "; ".join(map(str, findings)))


class AnswerUnavailable(OperationalError):
    """A request was done before, under its Idempotency-Key, and nobody can say now what the answer looks like."""

    code = "answer_unavailable"


class Stopping(OperationalError):
    """This process no longer takes writes; another one does, or this one after its restart."""

    code = "stopping"


class WriterFailed(InvariantError):
    """A worker of the group commit died; this process can write nothing more."""
