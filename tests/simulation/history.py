"""What happened, as an observer outside of the system sees it, and whether that keeps the system's promises."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Engine, select
from sqlmodel import col

from services.common import keys, projection
from services.common.events import AccountDeleted, EpochStarted, TweetCreated
from services.common.log.append import SCRIPT, AppendItem
from services.common.log.entry import Entry, parse
from services.common.log.scripts import load
from services.common.models import User
from services.db_updater.applier import Step
from services.db_updater.snapshots import Offer
from services.read.replica import Replica
from tests.simulation.redis_model import Data, Id
from tests.simulation.world import Process, Violation

if TYPE_CHECKING:
    from tests.simulation.nodes import OwnerNode
    from tests.simulation.schedule import Schedule


APPEND_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest().encode()
TRIM_SHA: Final = hashlib.sha1(load("trim").encode(), usedforsecurity=False).hexdigest().encode()
CHECKPOINTS_MAX: Final = 60
_COPIED: Final = [str(statement) for statement in projection.COPIED.values()]
_READS: Final = {
    b"XREAD", b"XRANGE", b"XLEN", b"HGET", b"HGETALL", b"GET", b"MGET", b"TIME", b"INFO", b"XINFO", b"CONFIG",
    b"CLIENT", b"MEMORY", b"SCAN", b"SMEMBERS", b"ZSCORE", b"ZCOUNT", b"SCRIPT",
}  # fmt: skip


@dataclass(slots=True)
class Write:
    """What a client wants written, and what it was told. ``is_unique``: no other write has this payload."""

    number: int
    item: AppendItem
    payload: bytes
    is_unique: bool
    attempts: int = 0
    acknowledged: list[int] = field(default_factory=list)
    is_in_doubt: bool = False
    """It was told once that nobody knows, or nothing at all."""


@dataclass(frozen=True, slots=True)
class Loss:
    """An entry was taken from Redis. ``knowers`` are processes that had seen it."""

    was_applied: bool
    knowers: list[Process]


class History:
    """Watches the server and the nodes of a schedule."""

    def __init__(self, schedule: Schedule, before: History | None = None) -> None:
        self._schedule = schedule
        self._world = schedule.world
        self._server = schedule.server
        self._server.model.on_record = self._on_record
        self._server.before_call = self._before_call
        self._server.after_call = self._after_call
        self._keeps_checkpoints = "roll_back" in schedule.plan.faults
        self.checkpoints: list[tuple[Data, int]] = []
        """What Redis held before each of the last commands that changed it, and how many entries."""
        self.timeline: list[Entry] = before.timeline[:] if before else []
        """All entries that the log of Redis consists of, trimmed ones too."""
        self.ever: dict[int, list[Entry]] = (
            {position: entries[:] for position, entries in before.ever.items()} if before else {}
        )
        self.lost: dict[Entry, Loss] = {}
        self.writes: list[Write] = before.writes[:] if before else []
        self.was_clock_set_back = False
        self._calls: dict[tuple[bytes, bytes], int] = {}
        self._fence_at_read: dict[Process, int] = {}
        self.leases: list[tuple[Process, int, float]] = []

    # What the server does

    def _meta(self, name: bytes) -> int:
        return int(self._server.model.data.values.get(b"log:meta", {}).get(name) or 0)

    def _before_call(self, _process: Process, command: list[bytes]) -> None:
        if self._keeps_checkpoints and command[0] not in _READS and self._schedule.owner.owner.position > 0:
            self.checkpoints.append((self._server.model.data.copy(), len(self.timeline)))
            del self.checkpoints[:-CHECKPOINTS_MAX]
        self._entries_before = len(self.timeline)

    def _after_call(self, process: Process, command: list[bytes], reply: Any) -> None:
        name = command[0]
        if name == b"XREAD":
            self._fence_at_read[process] = self._meta(b"fence")
        if name != b"EVALSHA":
            return
        if len(self.timeline) > self._entries_before and command[1] == APPEND_SHA:
            first_argument = 3 + int(command[2])
            session, number = command[first_argument : first_argument + 2]
            if (session, number) in self._calls:
                self._fail(f"call {int(number)} of the session {session!r} was carried out twice")
            self._calls[session, number] = len(self.timeline)
        if self._world.is_traced:
            added = [entry.position for entry in self.timeline[self._entries_before :]]
            shown = reply if isinstance(reply, bytes | int) else repr(reply)
            self._world.note("redis", f"script for {process.name}", reply=shown, added=added)
        if command[1] == TRIM_SHA and isinstance(reply, int) and reply > 0:
            self._check_leases(process)

    def _on_record(self, record_id: Id, fields: list[bytes]) -> None:
        entry = parse(b"%d-%d" % record_id, dict(zip(fields[::2], fields[1::2], strict=True)))
        last = self.timeline[-1].position if self.timeline else 0
        if entry.name != EpochStarted.name and entry.prev != last:
            self._fail(f"{entry} does not continue from {last}")
        self.timeline.append(entry)
        self.ever.setdefault(entry.position, []).append(entry)

    def _check_leases(self, process: Process) -> None:
        stream = self._server.model.data.values.get(keys.STREAM.encode())
        if stream is None or not stream.records or stream.records[0][1][1] == EpochStarted.name.encode():
            return
        horizon = parse(b"%d-%d" % stream.records[0][0], dict(zip(*[iter(stream.records[0][1])] * 2, strict=True)))
        for owner, position, ends_at in self.leases:
            if owner is process and ends_at > self._world.now and position < horizon.prev:
                self._fail(f"{process.name} has trimmed up to {horizon.prev}, past the snapshot of {position}")

    def on_offer(self, node: OwnerNode, offer: Offer, asked_at: float) -> None:
        """A snapshot is handed out: it is a lease."""
        ends_at = asked_at + self._schedule.plan.lease_seconds
        self.leases.append((node.process, offer.snapshot.position, ends_at))

    # Losses

    @property
    def is_recovering(self) -> bool:
        """Whether Redis lacks what the owner has, or has lost more than the owner knows."""
        newest = max((entry.position for entry in self.lost), default=0)
        return self._meta(b"head") < newest or self._meta(b"head") < self._schedule.owner.owner.position

    def roll_back(self, index: int) -> Data:
        """Redis comes back with what it held at a checkpoint."""
        data, length = self.checkpoints[index]
        del self.checkpoints[index:]
        self._lose(length)
        return data

    def lose_all(self) -> None:
        """Redis comes back empty."""
        self.checkpoints.clear()
        self._lose(0)

    def _lose(self, length: int) -> None:
        gone, self.timeline = self.timeline[length:], self.timeline[:length]
        volume = self._schedule.owner.volume
        self._world.note("redis", "loses", entries=len(gone), owner_position=volume.applied.position)
        archived = {entry for entries in volume.archive.read() for entry in entries}
        for entry in gone:
            # Not by its position alone: after a clock was set back, a fork may lie below what the owner has applied.
            was_applied = entry.kept in archived or volume.archive.position < entry.position <= volume.applied.position
            self.lost[entry] = Loss(was_applied, self._knowers(entry.position))
        self._calls = {call: count for call, count in self._calls.items() if count <= length}

    def _knowers(self, position: int) -> list[Process]:
        schedule = self._schedule
        writers = [node.process for node in schedule.writers if node.view.head >= position]
        readers = [node.process for node in schedule.readers if node.position >= position]
        return [process for process in writers + readers if process.is_alive]

    # What the owner does

    def after_step(self, node: OwnerNode, step: Step) -> None:
        """Check what must hold then."""
        if step is Step.COMMITTED:
            fence = node.volume.applied.fence
            if self._fence_at_read.get(node.process, 0) > fence:
                self._fail(f"{node.process.name} has committed what it read after its fence {fence} was gone")

    # In the end

    def is_whole(self) -> bool:
        """Whether everybody holds all of the log, and writes are taken."""
        return self.why_not_whole() is None

    def why_not_whole(self) -> str | None:  # noqa: PLR0911 - a list of reasons
        """What is missing for that."""
        schedule = self._schedule
        node, head = schedule.owner, self._meta(b"head")
        if self._world.now < self._server.last_arrival:
            return "messages are on their way"
        if not node.process.is_alive:
            return f"the owner is dead: {node.failure!r}"
        if node.owner.readiness() is not None:
            return f"owner: {node.owner.readiness()}"
        if node.volume.archive.position != head or head == 0:
            return f"the owner has archived {node.volume.archive.position} of {head}"
        for reader in schedule.readers:
            if reader.position != head or reader.follower.readiness() is not None:
                return f"{reader.process.name} is at {reader.position} of {head}: {reader.follower._trouble}"
        for writer in schedule.writers:
            if writer.watch.reason is not None:
                return f"{writer.process.name}: {writer.watch.reason}"
        if b"halt" in self._server.model.data.values[b"log:meta"]:
            return "halted"
        if keys.ABANDONED.encode() in self._server.model.data.values:
            return "the owner has not looked up what others were at"
        if any(other.process.is_alive for other in schedule.owners[:-1]):
            return "two owners"
        return schedule.workload.why_not_done()

    def check(self) -> None:
        """Raise Violation unless every promise was kept."""
        node = self._schedule.owner
        final = [entry for entries in node.volume.archive.read() for entry in entries]
        self._check_chain(final)
        self._check_actors(final)
        held = {entry.position: entry for entry in final}
        discarded = self._discarded()
        appended = defaultdict(list)
        for position, entries in self.ever.items():
            for payload in {entry.payload for entry in entries}:
                appended[payload].append(position)
        for write in self.writes:
            self._check_write(write, appended[write.payload], held, discarded)
        times = Counter(entry.payload for entry in final)
        for write in self.writes:
            if write.is_unique and times[write.payload] > 1:
                self._fail(f"write {write.number} is there {times[write.payload]} times")
        self._check_ids()
        self._check_copies()
        self._check_accounts()

    def _check_chain(self, final: list[Entry]) -> None:
        position = 0
        for entry in final:
            if entry.prev != position or entry.position <= position:
                self._fail(f"the archive has {entry} after {position}")
            if entry not in [other.kept for other in self.ever[entry.position]]:
                self._fail(f"the archive has {entry}, which was never in the log")
            position = entry.position
        if position != self._schedule.owner.owner.position:
            self._fail(f"the archive ends at {position}, the owner is at {self._schedule.owner.owner.position}")

    def _check_actors(self, final: list[Entry]) -> None:
        """Nothing was written for somebody who had left: it would be acknowledged, and never seen."""
        gone = set()
        for entry in final:
            if entry.name == AccountDeleted.name:
                gone.add(json.loads(entry.payload)["user_id"])
            elif entry.name == TweetCreated.name and json.loads(entry.payload)["user_id"] in gone:
                self._fail(f"{entry} is of an account that was deleted before it")

    def _discarded(self) -> set[tuple[int, str]]:
        lines = [
            json.loads(line)
            for path in (self._schedule.owner.directory / "recoveries").glob("*.ndjson")
            for line in path.read_text().splitlines()[:-1]
        ]
        return {(line["position"], json.dumps(line["payload"], sort_keys=True)) for line in lines}

    def _check_write(
        self, write: Write, appended: list[int], held: dict[int, Entry], discarded: set[tuple[int, str]]
    ) -> None:
        if write.is_unique and appended and not write.acknowledged and not write.is_in_doubt:
            self._fail(f"write {write.number} was refused, and is in the log at {appended}")
        for position in write.acknowledged:
            entries = self.ever.get(position, [])
            if not any(entry.payload == write.payload for entry in entries):
                self._fail(f"write {write.number} was acknowledged at {position}, where there is {entries}")
            if position in held and held[position].payload == write.payload:
                continue
            shown = position, json.dumps(json.loads(write.payload), sort_keys=True)
            if shown not in discarded:
                self._check_loss(write, position)

    def _check_loss(self, write: Write, position: int) -> None:
        losses = [
            loss for entry, loss in self.lost.items() if (entry.position, entry.payload) == (position, write.payload)
        ]
        if not losses:
            self._fail(f"write {write.number} was acknowledged at {position}, and is gone")
        if any(loss.was_applied for loss in losses):
            self._fail(f"write {write.number} at {position} is gone, though the owner had applied it")
        summaries = self._schedule.owner.volume.reports._summaries.values()
        is_reported = any(max(each.reported_position, each.log_head) >= position for each in summaries)
        if not is_reported and any(process.is_alive for loss in losses for process in loss.knowers):
            self._fail(f"write {write.number} at {position} is lost, which is not reported")

    def _check_ids(self) -> None:
        if self.was_clock_set_back:
            return
        for position, entries in self.ever.items():
            if len({entry.payload for entry in entries}) > 1:
                self._fail(f"the position {position} was given twice: {entries}")

    def _check_copies(self) -> None:
        schedule = self._schedule
        rows = _rows(schedule.owner.volume._engine)
        for reader in schedule.readers:
            replica = reader.store.backing
            assert isinstance(replica, Replica)
            if _rows(replica._writer) != rows:
                self._fail(f"{reader.process.name} differs from the owner")

    def _check_accounts(self) -> None:
        """Redis has the names and credentials of all accounts there are, and of no other."""
        node = self._schedule.owner
        with node.volume._engine.begin() as connection:
            rows = connection.execute(select(col(User.id), col(User.username))).all()
        values = self._server.model.data.values
        prefix = keys.NAME_PREFIX.encode()
        named = {key[len(prefix) :].decode(): int(value) for key, value in values.items()
                 if key.startswith(prefix) and not value.startswith(b"-")}  # fmt: skip
        users = {row.username.lower(): row.id for row in rows}
        if named != users:
            self._fail(f"Redis has the names {named}, the owner has {users}")
        credentials = {int(key[5:]) for key in values if key.startswith(keys.CREDENTIAL_PREFIX.encode())}
        due = set(users.values()) - self._deleted_for_nothing()
        if not due <= credentials <= set(users.values()):
            self._fail(f"Redis has credentials of {sorted(credentials)}, there are {sorted(users.values())}")
        kept = set(node.volume.private.credentials(list(users.values())))
        if not due <= kept:
            self._fail(f"the owner keeps credentials of {sorted(kept)}, there are {sorted(users.values())}")

    def _deleted_for_nothing(self) -> set[int]:
        """Accounts whose deletion was lost, after it had erased what they kept in confidence."""
        return {json.loads(entry.payload)["user_id"] for entry in self.lost if entry.name == AccountDeleted.name}

    def _fail(self, why: str) -> None:
        raise Violation(why)


def _rows(engine: Engine) -> list[Any]:
    """All rows that are equal on every copy."""
    with engine.begin() as connection:
        return [connection.exec_driver_sql(text).all() for text in _COPIED]
