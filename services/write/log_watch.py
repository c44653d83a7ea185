"""Looks at the log every second: readiness and positions are known without asking, and a loss is noticed when idle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import structlog
from redis.exceptions import RedisError

from services.common.errors import BehindHorizon, LogForked, LogUnavailable, NewerVersion
from services.common.ids import BEGINNING
from services.common.log.client import EventLog, LogStatus
from services.common.log.durability import Finding
from services.common.log.subscription import Subscription
from services.write.clocks import LogView
from services.write.errors import LogNotDurable
from services.write.log_budget import LogBudget
from services.write.metrics import LogMetrics

NAME: Final = "write"
LOOK_SECONDS: Final = 1.0

log = structlog.get_logger(__name__)


class LogWatch:
    """Knows in ``reason`` why the log takes no writes now; None if it does.

    Warns of a Redis that may lose what it acknowledges, when it comes into reach and when that changes. With
    ``requires_durability`` such a Redis is a reason.
    """

    def __init__(
        self, event_log: EventLog, view: LogView, metrics: LogMetrics, *, budget: LogBudget, requires_durability: bool
    ) -> None:
        self.on_epoch: Callable[[], None] = lambda: None
        """Called when the log has begun a new epoch: what was acknowledged before may be gone."""
        self._log = event_log
        self._view = view
        self._metrics = metrics
        self._budget = budget
        self._requires_durability = requires_durability
        self._epoch = 0
        self._findings: Sequence[Finding] = ()
        self.reason: str | None = "the log has not been asked yet"

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Ask the log once how it is."""
        try:
            status, holds_all_seen = await asyncio.to_thread(self._ask)
        except (LogUnavailable, RedisError) as error:
            self._findings = ()
            self._note(f"the log cannot be reached: {error}")
        else:
            if holds_all_seen:  # else we may be the only one who knows, and a halt can be lost like entries
                self._view.observe_head(status.head)
            self._view.is_full = self._budget.is_spent(status)
            self._metrics.is_halted.set(status.halt is not None)
            self._metrics.durability_findings.set(len(self._findings))
            if status.epoch > self._epoch:
                self._epoch = status.epoch
                self.on_epoch()
            self._note(_why_not(status) or self._why_not_durable())

    def close(self) -> None:
        """Close the connection."""
        self._log.close()

    def _ask(self) -> tuple[LogStatus, bool]:
        """How the log is, and whether it holds all that we have seen, as far as it reaches back."""
        findings = self._log.durability()
        if findings != self._findings:
            for finding in findings:
                log.warning("log_not_durable", code=finding.code, problem=finding.problem, remedy=finding.remedy)
        self._findings = findings
        seen_position = self._view.head  # before the question: another answer may raise it meanwhile
        status = self._log.status()
        return status, seen_position in (BEGINNING, status.head) or self._is_held(seen_position)

    def _is_held(self, seen_position: int) -> bool:
        """Whether a follower could go on from there; one that cannot says so to whom it concerns."""
        try:
            with suppress(BehindHorizon, NewerVersion):
                Subscription(self._log, seen_position, name=NAME, entries_max=1, block_ms=None).next_batch()
        except LogForked:
            return False
        return True

    def _why_not_durable(self) -> str | None:
        return str(LogNotDurable(self._findings)) if self._requires_durability and self._findings else None

    def _note(self, reason: str | None) -> None:
        if reason != self.reason:
            log.info("log_ready") if reason is None else log.warning("log_not_ready", reason=reason)
        self.reason = reason
        self._metrics.is_writable.set(reason is None)


def _why_not(status: LogStatus) -> str | None:
    if status.halt is not None:
        return f"the log is halted: {status.halt}"
    if status.epoch == 0:
        return "the log has not been started: is the db-updater running?"
    return None
