"""Checks of Redis and of the log in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from services.cli.doctor.finding import Finding, action, advice, fine
from services.common.auth.tokens import LEEWAY_SECONDS
from services.common.errors import LogUnavailable
from services.common.ids import created_at, unix_ms_of
from services.common.log.client import EventLog, LogStatus, ServerReport

REDIS_VERSION_MIN: Final = (7, 0)  # XGROUP SETID ... ENTRIESREAD
MEMORY_SHARE_MAX: Final = 0.7
CLOCK_SECONDS_MAX: Final = LEEWAY_SECONDS / 2  # beyond the leeway new tokens are refused as issued too early


def check_redis(redis_url: str) -> Iterator[Finding]:
    """Everything that Redis can be asked."""
    with closing(EventLog(redis_url)) as log:
        try:
            asked_ms = time.time() * 1000
            status = log.status()
            answered_ms = time.time() * 1000
            server = log.server()
            weaknesses = log.durability()
        except LogUnavailable as error:
            yield action("redis", f"Redis does not answer: {error}", "start it, or set REDIS_URL to where it is")
            return
    yield _version(server)
    for weakness in weaknesses:
        yield action(f"redis {weakness.code}", weakness.problem, weakness.remedy)
    if not weaknesses:
        yield fine("redis durability", "appendonly yes, appendfsync always: what is acknowledged is on disk")
    yield from _files(server)
    yield _memory(server)
    yield _clock(status, (asked_ms + answered_ms) / 2)
    yield _log(status)


def _version(server: ServerReport) -> Finding:
    numbers = tuple(int(part) for part in server.version.split(".")[:2] if part.isdigit())
    if numbers < REDIS_VERSION_MIN:
        return action("redis version", f"Redis {server.version} is too old", "install Redis 7.0 or newer, or Valkey")
    return fine("redis version", f"{server.name} {server.version}")


def _files(server: ServerReport) -> Iterator[Finding]:
    for name, is_well in (("last write", server.is_last_write_ok), ("last rewrite", server.is_last_rewrite_ok)):
        if not is_well:
            problem = f"the {name} of Redis's append-only file failed"
            yield action("redis file", problem, "look into Redis's log; most likely its disk is full or failing")


def _memory(server: ServerReport) -> Finding:
    used = f"{server.used_bytes / 2**20:,.0f} MiB are used"
    if not server.limit_bytes:
        remedy = "set maxmemory below what its machine or container has: else the system may kill Redis"
        return advice("redis memory", f"{used}, without a limit", remedy)
    share = server.used_bytes / server.limit_bytes
    what = f"{used}, {share:.0%} of maxmemory"
    if share > MEMORY_SHARE_MAX:
        remedy = "raise maxmemory, or lower LOG_RETENTION_SECONDS; when it is full, writes are refused (log_full)"
        return action("redis memory", what, remedy)
    return fine("redis memory", what)


def _clock(status: LogStatus, here_ms: float) -> Finding:
    ahead_seconds = (status.time_ms - here_ms) / 1000
    what = f"Redis's clock is {ahead_seconds:+.1f} s from this machine's"
    if abs(ahead_seconds) > CLOCK_SECONDS_MAX:
        return action("clock", what, "let both follow a time server (NTP)")
    if status.time_ms + CLOCK_SECONDS_MAX * 1000 < unix_ms_of(status.head):
        newest = f"the newest entry is of {created_at(status.head)}, which is later than now"
        return action("clock", newest, "let Redis's machine follow a time server (NTP)")
    return fine("clock", what)


def _log(status: LogStatus) -> Finding:
    if status.halt:
        remedy = "see that the db-updater runs: it starts a new epoch by itself; its log says why if it cannot"
        return action("log", f"writes are halted: {status.halt}", remedy)
    if not status.epoch:
        return action("log", "nobody has started the log yet", "start the db-updater")
    return fine("log", f"epoch {status.epoch}, {status.length:,} entries, {status.memory_bytes / 2**20:,.1f} MiB")
