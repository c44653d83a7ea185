"""Defects to put into the project's own code, to see whether a schedule breaks a promise then."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

from services.common.cache import Cache
from services.common.errors import LogUnavailable
from services.common.log import subscription
from services.common.log.append import SCRIPT
from services.common.log.client import EventLog
from services.db_updater.recovery import Recovery
from services.db_updater.snapshots import SnapshotShelf
from services.write import group_commit, log_writer
from services.write.log_writer import LogWriter
from tests.simulation import history
from tests.simulation.schedule import quiet_schedule


def _follower_ignores_prev(stack: ExitStack) -> None:
    stack.enter_context(patch.object(subscription, "check_chain", lambda entries, *_: list(entries)))


def _follower_of_a_trimmed_log_waits(stack: ExitStack) -> None:
    stack.enter_context(patch.object(subscription.Subscription, "_read_up_to_head", lambda _: []))


def _cache_is_not_invalidated(stack: ExitStack) -> None:
    stack.enter_context(patch.object(Cache, "raise_generations", lambda *_: None))


def _trim_past_a_lease(stack: ExitStack) -> None:
    stack.enter_context(patch.object(SnapshotShelf, "leased_position", lambda _: None))


def _commit_without_fence(stack: ExitStack) -> None:
    stack.enter_context(patch.object(EventLog, "check_fence", lambda *_: None))


def _append_knows_no_call(stack: ExitStack) -> None:
    _change_script(stack, "if kept and number == kept_number then", "if false then")


def _append_knows_no_deadline(stack: ExitStack) -> None:
    _change_script(stack, "if now_ms > deadline_ms then", "if false then")


def _resend_as_another_call(stack: ExitStack) -> None:
    send: Callable[..., Any] = LogWriter._send

    async def send_anew(writer: LogWriter, arguments: list[Any], until: float) -> Any:
        return await send(writer, [uuid.uuid4().hex, 1, *arguments[2:]], until)

    stack.enter_context(patch.object(LogWriter, "_send", send_anew))


def _doubt_is_told_as_refusal(stack: ExitStack) -> None:
    for module in (group_commit, log_writer):
        stack.enter_context(patch.object(module, "OutcomeUnknown", LogUnavailable))


def _recovery_rebuilds_no_accounts(stack: ExitStack) -> None:
    stack.enter_context(patch.object(Recovery, "_rebuild_accounts", lambda _: None))


def _fork_is_not_noticed_by_writers(stack: ExitStack) -> None:
    _change_script(stack, "local is_forked = has_lost_entries()", "local is_forked = false")


def _change_script(stack: ExitStack, text: str, changed: str) -> None:
    assert SCRIPT.count(text) == 1
    script = SCRIPT.replace(text, changed)
    sha = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
    stack.enter_context(patch.object(log_writer, "SCRIPT", script))
    stack.enter_context(patch.object(log_writer, "_SCRIPT_SHA", sha))
    stack.enter_context(patch.object(history, "APPEND_SHA", sha.encode()))


MUTANTS: Final[dict[str, Callable[[ExitStack], None]]] = {
    "follower_ignores_prev": _follower_ignores_prev,
    "follower_of_a_trimmed_log_waits": _follower_of_a_trimmed_log_waits,
    "cache_is_not_invalidated": _cache_is_not_invalidated,
    "trim_past_a_lease": _trim_past_a_lease,
    "commit_without_fence": _commit_without_fence,
    "append_knows_no_call": _append_knows_no_call,
    "append_knows_no_deadline": _append_knows_no_deadline,
    "resend_as_another_call": _resend_as_another_call,
    "doubt_is_told_as_refusal": _doubt_is_told_as_refusal,
    "recovery_rebuilds_no_accounts": _recovery_rebuilds_no_accounts,
    "fork_is_not_noticed_by_writers": _fork_is_not_noticed_by_writers,
}
RARE: Final = {
    "append_knows_no_deadline",
    "doubt_is_told_as_refusal",
    "follower_of_a_trimmed_log_waits",
    "fork_is_not_noticed_by_writers",
}
"""Those that fewer than one schedule in thirty shows, the first of them one in thousands: tried by hand (--mutant)."""


@contextmanager
def mutated(name: str) -> Iterator[None]:
    """While this lasts, the project has this defect; what schedules go on from is still of the sound code."""
    quiet_schedule()
    with ExitStack() as stack:
        MUTANTS[name](stack)
        yield
