"""Sends one append call at a time to Redis, over a connection of its own, and finds out what became of it.

redis-py would resend a command by itself, and a call whose answer got lost may have run all the same. So this uses
its bare connections, which never resend, and resends the very same call: the script answers a call it knows with the
first answer, and refuses one it does not know after the call's deadline. Either is the truth about every copy. It knows
calls by session and number, as Birrell and Nelson's remote procedure calls do (1984), and so needs to keep one answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, cast

import hiredis
import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from services.common import faults, keys
from services.common.errors import LogUnavailable, OperationalError, OutcomeUnknown, WritesRefused
from services.common.log.append import (
    KEYS,
    SCRIPT,
    SEEN_ARGUMENT,
    AppendCall,
    AppendItem,
    Argument,
    Result,
    encode_call,
    parse_reply,
)
from services.common.log.durability import HIDDEN, SETTINGS, judge
from services.common.log.redis_errors import is_passing
from services.write.clocks import LogView, TrustedClock
from services.write.errors import LogFull, LogNotDurable

ATTEMPT_SECONDS: Final = 0.35  # then ask again on a new connection, in case only the old one is stuck
VERDICT_SECONDS: Final = 0.1  # a call's deadline lies this long before ours: a copy sent between brings proof
PAUSE_SECONDS: Final = 0.03
IDLE_SECONDS: Final = 0.1  # after this a connection is tried out before anything is sent that could be in doubt
ALIVE_SECONDS: Final = 0.1
REPLY_SECONDS: Final = 0.05

_SESSION_IS_LOST: Final = frozenset(("session_unknown", "deadline_forgotten"))

_SCRIPT_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

log = structlog.get_logger(__name__)


class _Unanswered(Exception):
    """The call was sent, at least in part, and no answer came."""


class LogWriter:
    """The ``Append`` of the group commit. Not to be called again before its call has returned.

    With ``requires_durability`` nothing is sent to a Redis that may lose what it acknowledges. Each new connection is
    asked: behind it may be a server that has just started with other settings. A call has succeeded once
    ``replicas_min`` replicas have it on disk, too; until then what became of it is not known.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        view: LogView,
        clock: TrustedClock,
        *,
        requires_durability: bool = False,
        replicas_min: int = 0,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._connection = connection
        self._view = view
        self._clock = clock
        self._requires_durability = requires_durability
        self._replicas_min = replicas_min
        self._idle_seconds = idle_seconds
        self._answered_at = 0.0
        self._begin_session()

    async def __call__(self, items: Sequence[AppendItem], deadline: float) -> Sequence[Result]:
        """Append the items by ``deadline`` on the event loop's clock.

        Raises LogUnavailable, LogFull, LogNotDurable or WritesRefused if nothing was written, OutcomeUnknown if nobody
        can tell.
        """
        loop = asyncio.get_running_loop()
        arguments: list[Argument] = []
        failure: OperationalError = LogUnavailable("no time was left to ask the log")
        is_in_doubt = False  # a copy of this call was sent, and what became of it is not known
        while loop.time() < deadline:
            try:
                await self._open(_attempt_until(deadline) if is_in_doubt else deadline)
                if not is_in_doubt:
                    arguments = self._new_call(items, deadline)
                arguments[SEEN_ARGUMENT] = self._view.head  # another connection may have had an answer meanwhile
                return await self._append(arguments, deadline)
            except _Unanswered as error:
                if not is_in_doubt:
                    log.warning("append_unanswered", reason=str(error))
                is_in_doubt = True
            except LogFull as error:
                # Nothing was written, and nothing more is tried; only the log knows which items were done before.
                failure = error
                self._view.is_full = True
            except OperationalError as error:
                # A new connection asks for the time anew, and may lead to another server after a failover.
                await self._connection.disconnect(nowait=True)
                failure = error
                if isinstance(error, WritesRefused) and error.code in _SESSION_IS_LOST:
                    self._begin_session()
                if _is_final(error, is_in_doubt):
                    raise
            await asyncio.sleep(PAUSE_SECONDS)
        if is_in_doubt:
            raise OutcomeUnknown("the log has not answered; the write may or may not have happened") from failure
        raise failure

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.disconnect()

    def _begin_session(self) -> None:
        self._session = uuid.uuid4().hex
        self._number = 0

    def _new_call(self, items: Sequence[AppendItem], deadline: float) -> list[Argument]:
        self._number += 1
        call = AppendCall(
            session=self._session,
            number=self._number,
            deadline_ms=self._view.redis_ms(deadline - VERDICT_SECONDS),
            seen_position=self._view.head,
            clock_ms=self._clock.now_ms(),
            items=items,
            is_full=self._view.is_full,
        )
        return encode_call(call)

    async def _open(self, until: float) -> None:
        """Make sure of a connection that works. Raises LogUnavailable or LogNotDurable; nothing has been sent then."""
        if self._connection.is_connected and await self._is_alive():
            return
        try:
            async with asyncio.timeout_at(until):
                await self._connection.disconnect(nowait=True)
                await self._connection.connect()  # type: ignore[no-untyped-call]  # not typed there
                await self._ask_time()
                if self._requires_durability:
                    await self._check_durability()
        except (RedisError, OSError) as error:
            raise LogUnavailable(f"Redis cannot be reached: {error}") from error

    async def _is_alive(self) -> bool:
        """Whether an open connection works; asked of one that was idle, because it may have died unnoticed."""
        if asyncio.get_running_loop().time() - self._answered_at < self._idle_seconds:
            return True
        with suppress(RedisError, OSError):
            async with asyncio.timeout(ALIVE_SECONDS):
                await self._ask_time()
            return True
        return False

    async def _ask_time(self) -> None:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        seconds, microseconds = cast("list[bytes]", await self._ask("TIME"))
        self._answered_at = loop.time()
        self._view.observe_time(int(seconds) * 1000 + int(microseconds) // 1000, asked, self._answered_at)

    async def _check_durability(self) -> None:
        try:
            answer = cast("list[bytes]", await self._ask("CONFIG", "GET", *SETTINGS))
        except ResponseError as error:
            if is_passing(error):
                raise
            raise LogNotDurable([HIDDEN]) from error
        words = [word.decode() for word in answer]
        if findings := judge(dict(zip(words[::2], words[1::2], strict=True))):
            raise LogNotDurable(findings)

    async def _append(self, arguments: list[Argument], deadline: float) -> list[Result]:
        results = await self._send(arguments, _attempt_until(deadline))
        if self._replicas_min:
            await self._wait_for_replicas(deadline)
        return results

    async def _send(self, arguments: list[Argument], until: float) -> list[Result]:
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            async with asyncio.timeout_at(until):
                faults.reach("append:before_send")
                answer = await self._evaluate(arguments)
                faults.reach("append:after_xadd")
        except (RedisError, OSError) as error:
            raise _meaning(error) from error
        self._answered_at = loop.time()
        reply = parse_reply(answer)
        self._view.observe_time(reply.time_ms, asked, self._answered_at)
        self._view.observe_head(reply.head)
        return reply.results

    async def _evaluate(self, arguments: list[Argument]) -> bytes:
        command = ("EVALSHA", _SCRIPT_SHA, len(KEYS), *KEYS, *arguments)
        try:
            return cast("bytes", await self._ask(*command))
        except NoScriptError:  # Redis has restarted: the script did not run
            await self._ask("SCRIPT", "LOAD", SCRIPT)
            return cast("bytes", await self._ask(*command))

    async def _wait_for_replicas(self, deadline: float) -> None:
        """Return when enough replicas have on disk all that the log holds by now. Raises OutcomeUnknown.

        1. Write: replicas are waited for only as far as this connection has written, and the answer to a call may be
           about entries that another one has appended.
        2. WAIT until they have it. Alone, the next step would take a second: replicas say what they have fsynced when
           they are asked or once a second, and they are asked before they have fsynced this.
        3. WAITAOF until they say that it is on disk.
        """
        needed = self._replicas_min
        try:
            async with asyncio.timeout_at(deadline):
                await self._ask("SET", keys.WAITED_FOR, "")
                reached = cast("int", await self._ask("WAIT", needed, _milliseconds_until(deadline)))
                if reached >= needed:
                    answer = await self._ask("WAITAOF", 1, needed, _milliseconds_until(deadline))
                    _, reached = cast("list[int]", answer)
        except (RedisError, OSError) as error:
            raise OutcomeUnknown(
                f"it is in the log, and the replicas cannot be asked whether they have it: {error}"
            ) from error
        if reached < needed:
            raise OutcomeUnknown(f"it is in the log, but only {reached} of {needed} replicas have it on disk")
        self._answered_at = asyncio.get_running_loop().time()

    async def _ask(self, *command: Argument) -> object:
        # Packed in C: redis-py's own packing took half of this process's time for an append.
        await self._connection.send_packed_command(hiredis.pack_command(command), check_health=False)  # type: ignore[arg-type]  # any number of them
        return await self._connection.read_response()


def _attempt_until(deadline: float) -> float:
    return min(deadline, asyncio.get_running_loop().time() + ATTEMPT_SECONDS)


def _milliseconds_until(deadline: float) -> int:
    """For Redis to wait: a little less, so that its answer is here in time."""
    return max(int((deadline - asyncio.get_running_loop().time() - REPLY_SECONDS) * 1000), 1)


def _is_final(error: OperationalError, is_in_doubt: bool) -> bool:
    """Whether an error decides the call, given that an earlier copy may have run or may still run."""
    if isinstance(error, OutcomeUnknown):
        return True
    if isinstance(error, WritesRefused) and (error.code.startswith("deadline_") or error.code in _SESSION_IS_LOST):
        # In doubt this is the proof that no copy ran or will run. Otherwise our idea of Redis's clock or of the session
        # is wrong, the only copy is known not to have run, and a fresh call may follow.
        return is_in_doubt and error.code == "deadline_passed"
    return not is_in_doubt


def _meaning(error: RedisError | OSError) -> OperationalError | _Unanswered:
    """What an error in answer to the append says about it."""
    if isinstance(error, OutOfMemoryError):
        return LogFull("the log has no memory left; nothing was written")
    if not isinstance(error, ResponseError | BusyLoadingError | AuthenticationError):
        return _Unanswered(str(error) or type(error).__name__)
    if is_passing(error):
        return LogUnavailable(f"Redis: {error}")
    log.error("append_script_failed", reason=str(error))
    return OutcomeUnknown(f"the append failed inside Redis: {error}")
