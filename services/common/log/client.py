"""The log as followers, the owner and the command line see it: synchronous, one call at a time, no retries."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, cast

from redis.exceptions import ResponseError

from services.common import events, keys
from services.common.errors import FenceLost, InvariantError, LogForked, LogUnavailable
from services.common.events import EpochStarted
from services.common.ids import entry_id, position_from_entry_id, unix_ms_of
from services.common.log.append import (
    KEYS,
    NAME_HELD_SECONDS,
    REFUSALS,
    SCRIPT,
    AppendCall,
    AppendItem,
    AppendReply,
    Argument,
    encode_call,
    parse_reply,
)
from services.common.log.durability import SETTINGS, Finding, judge
from services.common.log.entry import Entry, parse, parse_pairs
from services.common.log.idempotency import IdempotencyAnswer, hour_of
from services.common.log.redis_errors import is_passing, translated
from services.common.log.redis_url import is_sentinel, redis_client
from services.common.log.scripts import load

APPEND_BUDGET_MS: Final = 2_000
REPLICAS_MS: Final = 400  # of twice that, and so below the timeout
SCAN_KEYS: Final = 1_000
ACCOUNTS_A_CALL: Final = 200  # a few milliseconds of Redis: nobody else waits longer for it


@dataclass(frozen=True, slots=True)
class LogStatus:
    """What the log says of itself. ``horizon`` is the position of its oldest entry, None while it has none.

    ``abandoned`` are positions that somebody was at when the log held nothing so old any more: trimmed, or lost.
    ``memory_bytes`` is what its entries take, ``memory_bytes_max`` what Redis may take for everything, 0 without limit.
    """

    head: int
    epoch: int
    fence: int
    halt: str | None
    reported: int
    version: int
    length: int
    entries_added: int
    abandoned: Sequence[int]
    horizon: int | None
    time_ms: int
    memory_bytes: int
    memory_bytes_max: int


@dataclass(frozen=True, slots=True)
class ServerReport:
    """What the Redis behind the log says of itself; ``limit_bytes`` is its maxmemory, 0 for none."""

    name: str
    version: str
    used_bytes: int
    limit_bytes: int
    is_last_write_ok: bool
    is_last_rewrite_ok: bool


@dataclass(frozen=True, slots=True)
class StoredCredential:
    """A user's private data as append.lua left it beside the log; ``position`` is the entry that did so last."""

    username: str
    email: str
    email_hmac: str
    password_hash: str | None
    revoked_position: int = 0
    suspended_position: int = 0
    position: int = 0

    @classmethod
    def parse(cls, fields: Mapping[bytes, bytes]) -> StoredCredential:
        """What the hash ``cred:{user}`` holds."""
        return cls(
            username=fields[b"username"].decode(),
            email=fields[b"email"].decode(),
            email_hmac=fields[b"email_hmac"].decode(),
            password_hash=fields[b"password_hash"].decode() or None,
            revoked_position=int(fields.get(b"revoked_position", 0)),
            suspended_position=int(fields.get(b"suspended_position", 0)),
            position=int(fields.get(b"position", 0)),
        )


class EventLog:
    """The stream and the keys beside it. Every call raises LogUnavailable when Redis cannot answer now."""

    def __init__(self, redis_url: str, *, timeout_seconds: float = 1.0) -> None:
        self._redis = redis_client(redis_url, timeout_seconds)
        self._redis.set_response_callback("XREAD", _entries)  # instead of a dict for each
        self._replicas_min = int(is_sentinel(redis_url))
        self._append = self._redis.register_script(SCRIPT)
        self._start_epoch = self._redis.register_script(load("start_epoch", appends=True))
        self._raise_fence = self._redis.register_script(load("raise_fence"))
        self._trim = self._redis.register_script(load("trim"))
        self._halt = self._redis.register_script(load("halt"))
        self._abandon = self._redis.register_script(load("abandon"))
        self._release_name = self._redis.register_script(load("release_name"))
        self._write_accounts = self._redis.register_script(load("write_accounts"))

    def read(self, after_position: int, *, entries_max: int = 1000, block_ms: int | None = None) -> list[Entry]:
        """Entries after a position, oldest first; waits up to ``block_ms`` (below the timeout) for the first."""
        with translated():
            return cast(
                "list[Entry]",
                self._redis.xread({keys.STREAM: entry_id(after_position)}, count=entries_max, block=block_ms),
            )

    def entry(self, position: int) -> Entry | None:
        """The entry at exactly this position, None if there is none (or no longer)."""
        with translated():
            records = cast(
                "list[tuple[bytes, dict[bytes, bytes]]]",
                self._redis.xrange(keys.STREAM, entry_id(position), entry_id(position), count=1),
            )
        return parse(*records[0]) if records else None

    def head(self) -> int:
        """The position of the newest entry ever appended; 0 where the log was never started or is gone."""
        with translated():
            return int(cast("bytes | None", self._redis.hget(keys.META, "head")) or 0)

    def status(self) -> LogStatus:
        """Everything the log says of itself, in one round trip."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.META)
            pipe.xlen(keys.STREAM)
            pipe.xrange(keys.STREAM, count=1)
            pipe.smembers(keys.ABANDONED)
            pipe.time()
            pipe.memory_usage(keys.STREAM, samples=16)
            pipe.info("memory")
            pipe.xinfo_stream(keys.STREAM)
            meta, length, oldest, abandoned, now, memory, server, info = pipe.execute(raise_on_error=False)
        for answer in (meta, length, oldest, abandoned, now, memory, server):
            if isinstance(answer, Exception):
                with translated():
                    raise answer
        text = {field.decode(): value.decode() for field, value in meta.items()}
        return LogStatus(
            head=int(text.get("head", 0)),
            epoch=int(text.get("epoch", 0)),
            fence=int(text.get("fence", 0)),
            halt=text.get("halt"),
            reported=int(text.get("reported", 0)),
            version=int(text.get("version", 0)),
            length=length,
            # XINFO fails on a stream that does not exist yet.
            entries_added=0 if isinstance(info, Exception) else int(info["entries-added"]),
            abandoned=sorted(map(int, abandoned)),
            horizon=position_from_entry_id(oldest[0][0].decode()) if oldest else None,
            time_ms=now[0] * 1000 + now[1] // 1000,
            memory_bytes=memory or 0,
            memory_bytes_max=server["maxmemory"],
        )

    def server(self) -> ServerReport:
        """What Redis says of its version, its memory and its file."""
        with translated():
            fields = self._redis.info()
        return ServerReport(
            name=fields.get("server_name", "redis"),
            version=str(fields.get("valkey_version") or fields["redis_version"]),
            used_bytes=int(fields["used_memory"]),
            limit_bytes=int(fields["maxmemory"]),
            is_last_write_ok=fields.get("aof_last_write_status", "ok") == "ok",
            is_last_rewrite_ok=fields.get("aof_last_bgrewrite_status", "ok") == "ok",
        )

    def durability(self) -> Sequence[Finding]:
        """What in the settings of this Redis may lose acknowledged writes."""
        with translated():
            try:
                return judge(cast("dict[str, str]", self._redis.config_get(*SETTINGS)))
            except ResponseError as error:
                if is_passing(error):
                    raise
                return judge(None)

    def append(self, items: Sequence[AppendItem], *, seen_position: int = 0) -> AppendReply:
        """Append a batch, for tools and fixtures; the write service has its group commit.

        Raises WritesRefused when the log refuses, LogUnavailable when the outcome may be unknown.
        """
        with translated():
            seconds, microseconds = self._redis.time()
            now_ms = seconds * 1000 + microseconds // 1000
            call = AppendCall(
                session="",
                number=0,
                deadline_ms=now_ms + APPEND_BUDGET_MS,
                seen_position=seen_position,
                clock_ms=time.time_ns() // 1_000_000,
                items=items,
            )
            reply = parse_reply(cast("bytes", self._append(keys=KEYS, args=encode_call(call))))
        self._wait_for_replicas()
        return reply

    def start_epoch(
        self, epoch: int, fence: int, base_position: int, *, entries: int = 0, seen: LogStatus | None = None
    ) -> int:
        """Append EpochStarted with ``prev`` = base position, in place of all before it; lift a halt. Its position.

        ``entries`` is how many there are up to the base, ``seen`` the state of the log that this rests on. Raises
        FenceLost for an owner that is no longer the owner, LogForked when the log is no longer as it was seen or
        came back older, InvariantError for an epoch already started, LogUnavailable when Redis's clock is wrong.
        """
        seen = seen or self.status()
        event = EpochStarted(epoch=epoch)
        clock_ms = time.time_ns() // 1_000_000
        arguments: list[Argument] = [fence, epoch, base_position, entries, seen.head, seen.reported, clock_ms]
        arguments += (event.name, event.version, events.encode(event))
        return int(self._owned(self._start_epoch, [keys.STREAM, keys.META, keys.CALLS, keys.DELETED], fence, arguments))

    def raise_fence(self, at_least: int) -> int:
        """Take ownership: the new fence is above Redis's and above ``at_least``."""
        with translated():
            return int(cast("int", self._raise_fence(keys=[keys.META], args=[at_least])))

    def check_fence(self, fence: int) -> None:
        """Raise FenceLost when another owner has raised it, LogForked when Redis has forgotten this one."""
        with translated():
            found = cast("bytes | None", self._redis.hget(keys.META, "fence"))
        compare_fence(int(found or 0), fence)

    def announce_version(self, version: int) -> None:
        """Tell writers which projection version the owner applies."""
        with translated():
            if self._redis.hget(keys.META, "version") != b"%d" % version:  # a Redis that is full takes no HSET
                self._redis.hset(keys.META, "version", str(version))

    def trim(self, up_to_position: int, fence: int) -> int:
        """Remove the entries up to a position, inclusive; returns how many. Raises as check_fence does."""
        arguments = [fence, entry_id(up_to_position + 1), up_to_position]
        return int(self._owned(self._trim, [keys.STREAM, keys.META, keys.DELETED], fence, arguments))

    def halt(self, reason: str, position: int) -> None:
        """Stop all writes, because the owner, which is at ``position``, finds acknowledged entries missing."""
        self._report(reason, position, "owner")

    def report_fork(self, reason: str, position: int, entry_position: int | None) -> None:
        """Stop all writes, because a follower at ``position`` finds acknowledged entries missing.

        It shows so by an entry that does not continue from its position, or (None) by a log that ends before it.
        Does nothing if the log has been set right since the follower looked.
        """
        self._report(reason, position, "head" if entry_position is None else entry_id(entry_position))

    def abandon(self, position: int) -> None:
        """Tell the owner of a position that somebody is at, and from which the log can no longer be followed."""
        with translated():
            self._abandon(keys=[keys.ABANDONED], args=[position])

    def forget_abandoned(self, positions: Sequence[int]) -> None:
        """The owner has looked whether these were lost."""
        with translated():
            self._redis.srem(keys.ABANDONED, *positions)

    def show_progress(self, position: int, entries_read: int) -> None:
        """Keep a consumer group at the owner's position, so that standard tools can show its lag."""
        with translated():
            try:
                self._redis.xgroup_setid(keys.STREAM, keys.OWNER_GROUP, entry_id(position), entries_read=entries_read)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                self._redis.xgroup_create(keys.STREAM, keys.OWNER_GROUP, entry_id(position), entries_read=entries_read)

    def credentials(self, user_ids: Sequence[int]) -> dict[int, StoredCredential]:
        """The private data of these users, as far as Redis still holds it."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for user_id in user_ids:
                pipe.hgetall(keys.credential(user_id))
            answers = cast("list[dict[bytes, bytes]]", pipe.execute())
        return {
            user_id: StoredCredential.parse(fields) for user_id, fields in zip(user_ids, answers, strict=True) if fields
        }

    def user_named(self, username: str) -> int | None:
        """The id of the account with this name, in any case."""
        with translated():
            holder = cast("bytes | None", self._redis.get(keys.NAME_PREFIX + username.lower()))
        # The name of a deleted account is held for a while, by nobody; see append.lua.
        return int(holder) if holder is not None and holder.isdigit() else None

    def release_names(self, user_ids: Sequence[int]) -> None:
        """Give back the names and e-mails held by accounts that the projection rejected; repeatable."""
        with translated():
            for user_id in user_ids:
                prefixes = [keys.credential(user_id), keys.NAME_PREFIX, keys.EMAIL_PREFIX]
                self._release_name(keys=prefixes, args=[user_id])

    def forget_accounts(self) -> None:
        """Remove all names, e-mails and credentials, to be written anew; not the names that nobody may take yet."""
        with translated():
            for prefix in (keys.NAME_PREFIX, keys.EMAIL_PREFIX, keys.CREDENTIAL_PREFIX):
                cursor = -1
                while cursor != 0:
                    cursor, found = cast(
                        "tuple[int, list[bytes]]",
                        self._redis.scan(max(cursor, 0), match=f"{prefix}*", count=SCAN_KEYS),
                    )
                    if gone := found if prefix != keys.NAME_PREFIX else self._held_by_somebody(found):
                        self._redis.unlink(*gone)

    def hold_names(self, names: Mapping[str, int]) -> None:
        """Let nobody take names, in lower case, that accounts left at these positions, until they are free."""
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            for name, position in names.items():
                pipe.set(f"{keys.NAME_PREFIX}{name}", f"-{unix_ms_of(position) + NAME_HELD_SECONDS * 1000}")
            pipe.execute()

    def write_accounts(
        self, fence: int, usernames: Mapping[int, str], credentials: Mapping[int, StoredCredential]
    ) -> None:
        """Write the names of users and what is kept in confidence of them, as append.lua does; repeatable.

        ACCOUNTS_A_CALL in one call, and so with one fsync. Raises as check_fence does, and then no more is written.
        """
        prefixes = [keys.NAME_PREFIX, keys.EMAIL_PREFIX, keys.CREDENTIAL_PREFIX]
        users = iter(usernames.items())
        while some := list(islice(users, ACCOUNTS_A_CALL)):
            arguments: list[Argument] = [fence]
            for user_id, username in some:
                arguments += (user_id, username.lower(), *_confidence(credentials.get(user_id)))
            self._owned(self._write_accounts, [keys.META, *prefixes], fence, arguments)

    def write_answers(self, answers: Sequence[IdempotencyAnswer]) -> None:
        """Write what was appended under idempotency keys, as append.lua does; repeatable."""
        by_hour: dict[int, dict[Any, Any]] = defaultdict(dict)
        for (scope, fingerprint), position in answers:
            by_hour[hour_of(position)][scope] = b"%d:%s" % (position, fingerprint)
        with translated():
            for hour, of_hour in by_hour.items():
                self._redis.sadd(keys.IDEMPOTENCY_HOURS, hour)  # first: an hour that is not there is never dropped
                self._redis.hset(keys.idempotency(hour), mapping=of_hour)

    def drop_answers(self, first_hour: int | None) -> bool:
        """Drop the answers of the hours before ``first_hour``, None for all; repeatable. Whether there were any."""
        with translated():
            hours = [int(hour) for hour in cast("set[bytes]", self._redis.smembers(keys.IDEMPOTENCY_HOURS))]
            over = [hour for hour in hours if first_hour is None or hour < first_hour]
            if over:
                self._redis.unlink(*map(keys.idempotency, over))
                self._redis.srem(keys.IDEMPOTENCY_HOURS, *over)
        return bool(over)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _wait_for_replicas(self) -> None:
        """Where a failover may come, return when a replica has all of the log on disk, as LogWriter does."""
        if not self._replicas_min:
            return
        with translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.set(keys.WAITED_FOR, "")
            pipe.wait(self._replicas_min, REPLICAS_MS)
            pipe.waitaof(1, self._replicas_min, REPLICAS_MS)
            *_, (_, on_disk) = pipe.execute()
        if on_disk < self._replicas_min:
            raise LogUnavailable("what was appended is not on a replica's disk yet, and a failover would lose it")

    def _held_by_somebody(self, names: list[bytes]) -> list[bytes]:
        """Without those of deleted accounts, which are held for nobody (``-{Unix ms}``)."""
        holders = cast("list[bytes | None]", self._redis.mget(names)) if names else []
        return [name for name, holder in zip(names, holders, strict=True) if not (holder or b"").startswith(b"-")]

    def _report(self, reason: str, position: int, evidence: str) -> None:
        with translated():
            self._halt(keys=[keys.STREAM, keys.META], args=[reason, position, evidence])

    def _owned(self, script: Any, script_keys: list[str], fence: int, arguments: list[Any]) -> Any:
        with translated():
            try:
                return script(keys=script_keys, args=arguments)
            except ResponseError as error:
                word, _, rest = str(error).partition(" ")
                if word == "FENCE":
                    compare_fence(int(rest), fence)
                if word == "EPOCH":
                    raise InvariantError(f"epoch {rest} has been started already") from error
                if word == "CHANGED":
                    raise LogForked(f"the log has changed while an epoch was prepared, {rest}") from error
                if word == "CLOCK":
                    raise LogUnavailable(f"Redis: {REFUSALS['clock_ahead']}") from error
                raise


def _entries(streams: Sequence[tuple[bytes, Sequence[tuple[bytes, Sequence[bytes]]]]] | None) -> list[Entry]:
    """What Redis answers to XREAD, or None for nothing."""
    return [parse_pairs(record_id, pairs) for _, records in streams or () for record_id, pairs in records]


def _confidence(credential: StoredCredential | None) -> tuple[Argument, ...]:
    """What write_accounts.lua takes of it, after the name."""
    if credential is None:
        return ("",) * 7
    return (
        credential.email_hmac,
        credential.username,
        credential.email,
        credential.password_hash or "",
        credential.revoked_position,
        credential.suspended_position,
        credential.position,
    )


def compare_fence(found: int, mine: int) -> None:
    """Raise FenceLost when the log has a greater fence than mine, LogForked when it has a smaller one or none (0)."""
    if found > mine:
        raise FenceLost(f"fence {mine} is no longer in force: another owner has {found}")
    if found < mine:
        raise LogForked(f"fence {mine} was raised, but the log has {found}: it came back older than it was")
