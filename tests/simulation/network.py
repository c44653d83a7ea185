"""The server and the ways to it: what is sent arrives later, in order, and perhaps after who sent it has given up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
import redis.asyncio
import redis.connection

from tests.simulation.redis_model import Data, RedisModel, Refused, encoded
from tests.simulation.world import WALL_MS, Process, SimEvent, World

Deliver = Callable[[bytes | None], None]

SLOW_SECONDS: Final = 0.1
"""What takes longer is waited for in the end."""


class Server:
    """A Redis that can be stopped, stalled, cut off from a process, and restored to what it held before."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.step_ms = 0
        self.model = RedisModel(lambda: int(world.now * 1e6) + (WALL_MS + self.step_ms) * 1000)
        self.stalled_until = 0.0
        self.cut_off: dict[Process, float] = {}
        """Until when nothing passes between the server and a process."""
        self.muted: dict[Process, float] = {}
        """Until when no answer comes to a process, though what it asks for is done: its network has one direction."""
        self.last_arrival = 0.0
        """When the last of the slow messages, perhaps from a process that is dead, is here."""
        self.is_up = True
        self.before_call: Callable[[Process, list[bytes]], None] = lambda _process, _command: None
        self.after_call: Callable[[Process, list[bytes], Any], None] = lambda _process, _command, _reply: None
        self._connections: dict[Connection, None] = {}  # in order: sets of objects have none that repeats
        self._blocked: list[tuple[Connection, list[bytes], float]] = []

    def stop(self, data: Data) -> None:
        """Cut all connections. It will come back with this data, and without scripts."""
        self.is_up = False
        self.model.restart(data)
        self._blocked.clear()
        for connection in list(self._connections):
            connection.break_off()

    def start(self) -> None:
        """Come back."""
        self.is_up = True

    def accept(self, connection: Connection) -> None:
        """A connection is open."""
        self._connections[connection] = None

    def forget(self, connection: Connection) -> None:
        """A connection is closed."""
        self._connections.pop(connection, None)

    def carry_out(self, connection: Connection, command: list[bytes]) -> None:
        """A command has arrived."""
        if command[0] == b"XREAD" and b"BLOCK" in command:
            at = command.index(b"BLOCK")
            seconds = int(command[at + 1]) / 1000
            command = command[:at] + command[at + 2 :]
            if self._reply_of(connection, command) is None:
                waiting = (connection, command, self.world.now + seconds)
                self._blocked.append(waiting)
                self.world.after(seconds, lambda: self._give_up(waiting))
                return
        connection.reply(encoded(self._reply_of(connection, command)))
        if command[0] == b"EVALSHA" and self._blocked:
            self._wake()

    def _reply_of(self, connection: Connection, command: list[bytes]) -> Any:
        self.before_call(connection.process, command)
        reply: Any
        try:
            reply = self.model.execute(command)
        except Refused as refused:
            reply = refused
        self.after_call(connection.process, command, reply)
        return reply

    def _wake(self) -> None:
        blocked, self._blocked = self._blocked, []
        for waiting in blocked:
            connection, command, _ = waiting
            reply = self._reply_of(connection, command)
            if reply is None:
                self._blocked.append(waiting)
            else:
                connection.reply(encoded(reply))

    def _give_up(self, waiting: tuple[Connection, list[bytes], float]) -> None:
        if waiting in self._blocked:
            self._blocked.remove(waiting)
            waiting[0].reply(b"*-1\r\n")


class Delays:
    """How long messages take, in seconds.

    ``slow`` is the share of those that take much longer, ``cut`` of those at which the connection breaks.
    """

    def __init__(self, world: World, *, slow: float = 0.0, slow_seconds: float = 1.0, cut: float = 0.0) -> None:
        self._random = world.random
        self.slow = slow
        self.slow_seconds = slow_seconds
        self.cut = cut

    def seconds(self) -> float:
        """For one message."""
        if self.slow and self._random.random() < self.slow:
            return self._random.random() * self.slow_seconds
        return 0.00005 + self._random.random() * 0.001

    def breaks(self) -> bool:
        """Whether the connection breaks at one message."""
        return self.cut > 0 and self._random.random() < self.cut


class Connection:
    """A connection as its two ends see it. ``deliver`` gives the client bytes, or None when it broke off."""

    def __init__(self, server: Server, process: Process, delays: Delays, deliver: Deliver) -> None:
        self.process = process
        self._server = server
        self._world = server.world
        self._delays = delays
        self._deliver = deliver
        self._reader = hiredis.Reader()
        self._is_open = True
        self._inbox: deque[bytes] = deque()
        self._outbox: deque[bytes] = deque()
        self._arrives_at = 0.0
        self._answers_at = 0.0
        server.accept(self)

    def send(self, data: bytes) -> None:
        """The client sends; what is on its way arrives even if the client closes or dies."""
        if not self._is_open:
            raise ConnectionResetError("the connection is broken")
        if self._delays.breaks():
            self._world.note(self.process.name, "connection breaks before")
            self.break_off()
            return
        self._inbox.append(data)
        self._arrives_at = self._later(self._arrives_at)
        if self._arrives_at > self._world.now + SLOW_SECONDS:
            self._server.last_arrival = max(self._server.last_arrival, self._arrives_at)
        self._world.after(self._arrives_at - self._world.now, self._arrive)

    def reply(self, data: bytes) -> None:
        """The server answers."""
        if self._delays.breaks():
            self._world.note(self.process.name, "connection breaks after")
            self.break_off()
        if self._is_open:
            self._outbox.append(data)
            self._answers_at = max(self._later(self._answers_at), self._server.muted.get(self.process, 0.0))
            self._world.after(self._answers_at - self._world.now, self._receive, self.process)

    def break_off(self) -> None:
        """Neither end gets anything more; the client learns of it."""
        if self._is_open:
            self._end()
            self._world.after(self._delays.seconds(), lambda: self._deliver(None), self.process)

    def close(self) -> None:
        """The client closes; what it has sent is still carried out."""
        self._is_open = False

    def _arrive(self) -> None:
        """The oldest message that is on its way arrives, as messages of a connection do not overtake each other."""
        if self not in self._server._connections:
            return
        if self._server.stalled_until > self._world.now:
            self._world.after(self._server.stalled_until - self._world.now, self._arrive)
            return
        self._reader.feed(self._inbox.popleft())
        while (command := self._reader.gets()) is not False:
            self._server.carry_out(self, cast("list[bytes]", command))

    def _receive(self) -> None:
        data = self._outbox.popleft()
        if self._is_open:
            self._deliver(data)

    def _end(self) -> None:
        self._is_open = False
        self._server.forget(self)

    def _later(self, than: float) -> float:
        moment = self._world.now + self._delays.seconds()
        cut_off_until = self._server.cut_off.get(self.process, 0.0)
        return max(than + 1e-6, moment, cut_off_until)


class SimSocket:
    """What redis-py needs of a socket, in a thread of a process."""

    def __init__(self, server: Server, process: Process, delays: Delays) -> None:
        self._world = server.world
        self._timeout: float | None = None
        self._received = bytearray()
        self._is_broken = False
        self._changed = SimEvent(self._world)
        self._connection = Connection(server, process, delays, self._deliver)

    def settimeout(self, seconds: float | None) -> None:
        """How long a call waits."""
        self._timeout = seconds

    def sendall(self, data: bytes) -> None:
        """Send."""
        self._connection.send(bytes(data))

    def recv_into(self, buffer: bytearray) -> int:
        """Wait for data. Raises TimeoutError, ConnectionResetError."""
        if not self._received and not self._is_broken and not self._changed.wait(self._timeout):
            raise TimeoutError("timed out")
        self._changed.clear()
        if self._is_broken and not self._received:
            raise ConnectionResetError("the connection is broken")
        count = len(self._received)
        buffer[:count] = self._received
        self._received.clear()
        return count

    def is_dirty(self) -> bool:
        """Whether there is something unread, or nothing more to read."""
        return bool(self._received) or self._is_broken

    def shutdown(self, _how: int) -> None:
        """Close."""
        self._connection.close()

    def close(self) -> None:
        """Close."""
        self._connection.close()

    def _deliver(self, data: bytes | None) -> None:
        if data is None:
            self._is_broken = True
        else:
            self._received += data
        self._changed.set()


class _Writer:
    """What redis-py needs of a StreamWriter."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def writelines(self, parts: list[bytes]) -> None:
        self._connection.send(b"".join(parts))

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        self._connection.close()

    async def wait_closed(self) -> None:
        pass


class Network:
    """Makes connections of processes to a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.delays: dict[Process, Delays] = {}

    def of(self, process: Process) -> Delays:
        """How messages of a process fare."""
        return self.delays.setdefault(process, Delays(self.server.world))

    def threaded(self, process: Process) -> type[redis.connection.Connection]:
        """redis-py's connection, for threads of a process."""
        network, world = self, self.server.world

        class SimConnection(redis.connection.Connection):
            def __init__(self, **options: Any) -> None:
                # Two round trips less, which nobody looks at.
                super().__init__(**options, driver_info=None)  # type: ignore[no-untyped-call]  # not typed there

            def _connect(self) -> SimSocket:
                seconds, error = network._opening(process, self.socket_connect_timeout)
                world.sleep(seconds)
                if error is None and not network.server.is_up:
                    error = ConnectionRefusedError(111, "refused")
                if error is not None:
                    raise error
                opened = SimSocket(network.server, process, network.of(process))
                opened.settimeout(self.socket_timeout)
                return opened

            def can_read(self, timeout: float = 0) -> bool:  # noqa: ARG002 - nobody waits here
                return bool(cast("SimSocket", self._sock).is_dirty())

        return SimConnection

    def awaited(self, process: Process) -> type[redis.asyncio.Connection]:
        """redis-py's connection, for the event loop of a process."""
        network = self

        class SimAsyncConnection(redis.asyncio.Connection):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options, driver_info=None)

            def __del__(self, _warnings: Any = None) -> None:
                """A process that is killed closes nothing, and redis-py would complain of it."""

            async def _connect(self) -> None:
                seconds, error = network._opening(process, self.socket_connect_timeout)
                await asyncio.sleep(seconds)
                if error is None and not network.server.is_up:
                    error = ConnectionRefusedError(111, "refused")
                if error is not None:
                    raise error
                reader = asyncio.StreamReader(loop=asyncio.get_running_loop())

                def deliver(data: bytes | None) -> None:
                    if data is not None:
                        reader.feed_data(data)
                    elif reader.exception() is None:
                        reader.set_exception(ConnectionResetError("the connection is broken"))

                self._reader = reader
                self._writer = cast(
                    "asyncio.StreamWriter", _Writer(Connection(network.server, process, network.of(process), deliver))
                )

        return SimAsyncConnection

    def _opening(self, process: Process, timeout_seconds: float | None) -> tuple[float, OSError | None]:
        """How long it takes to connect, and why it fails."""
        world = self.server.world
        blocked_for = max(self.server.cut_off.get(process, 0.0) - world.now, 0.0)
        seconds = max(self.of(process).seconds(), blocked_for)
        if timeout_seconds is not None and seconds > timeout_seconds:
            return timeout_seconds, TimeoutError("timed out")
        return seconds, None
