"""A Redis as this project uses one: the commands and scripts it sends, on dictionaries, with a clock that is set.

The project's Lua scripts run as they are, in Lua 5.1. test_redis_model.py beside this holds every command to a real
server.
"""

from __future__ import annotations

import copy
import hashlib
from bisect import bisect_left, bisect_right
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from lupa import lua51

Id = tuple[int, int]
Record = tuple[Id, list[bytes]]

_ID_MIN: Final = (0, 0)
_ID_MAX: Final = (2**64 - 1, 2**64 - 1)


class Refused(Exception):
    """An error reply."""


class Status(str):
    """A status reply, such as OK."""

    __slots__ = ()


OK: Final = Status("OK")
WRONG_TYPE: Final = "WRONGTYPE Operation against a key holding the wrong kind of value"


@dataclass(slots=True)
class Stream:
    """The records in order of their ids."""

    records: list[Record] = field(default_factory=list)
    last_id: Id = _ID_MIN
    added: int = 0
    groups: dict[bytes, tuple[Id, int]] = field(default_factory=dict)

    def __copy__(self) -> Stream:
        return Stream(self.records[:], self.last_id, self.added, dict(self.groups))

    def between(self, first: Id, last: Id) -> list[Record]:
        """The records with ids from first to last, inclusive."""
        records = self.records
        return records[bisect_left(records, first, key=_id_of) : bisect_right(records, last, key=_id_of)]


@dataclass(slots=True)
class Data:
    """All keys. ``expires`` is in Unix milliseconds."""

    values: dict[bytes, Any] = field(default_factory=dict)
    expires: dict[bytes, int] = field(default_factory=dict)

    def copy(self) -> Data:
        """As it is now, for later."""
        return Data({key: copy.copy(value) for key, value in self.values.items()}, dict(self.expires))


class RedisModel:
    """Carries out commands one after another. ``time_us`` is its clock, ``data`` what it holds."""

    def __init__(self, time_us: Callable[[], int]) -> None:
        self.time_us = time_us
        self.data = Data()
        self.on_record: Callable[[Id, list[bytes]], None] = lambda _id, _fields: None
        """Called with each record that is added to a stream."""
        self._scripts: dict[bytes, bytes] = {}

    def restart(self, data: Data) -> None:
        """Come back with some data, and no scripts."""
        self.data = data
        self._scripts.clear()

    def execute(self, command: list[bytes]) -> Any:
        """The reply to a command: int, bytes, None, Status, a list of such. Raises Refused."""
        name = command[0].upper().decode()
        method = getattr(self, f"_{name.lower()}", None)
        if method is None:
            raise Refused(f"ERR unknown command '{name}'")
        return method(*command[1:])

    # Keys

    def _get_value(self, key: bytes, kind: type) -> Any:
        expires = self.data.expires.get(key)
        if expires is not None and expires <= self.time_us() // 1000:
            self._drop(key)
        value = self.data.values.get(key)
        if value is not None and not isinstance(value, kind):
            raise Refused(WRONG_TYPE)
        return value

    def _make(self, key: bytes, kind: type) -> Any:
        value = self._get_value(key, kind)
        if value is None:
            value = self.data.values[key] = kind()
        return value

    def _drop(self, key: bytes) -> int:
        self.data.expires.pop(key, None)
        return self.data.values.pop(key, None) is not None

    def _drop_if_empty(self, key: bytes, value: Any) -> None:
        if not value:
            self._drop(key)

    def _del(self, *keys: bytes) -> int:
        return sum([self._exists(key) and self._drop(key) for key in keys])

    _unlink = _del

    def _exists(self, *keys: bytes) -> int:
        return sum(self._get_value(key, object) is not None for key in keys)

    def _flushall(self) -> Status:
        self.data = Data()
        return OK

    def _scan(self, _cursor: bytes, *options: bytes) -> list[Any]:
        given = dict(zip([name.upper() for name in options[::2]], options[1::2], strict=True))
        prefix = given[b"MATCH"].removesuffix(b"*")
        return [b"0", [key for key in list(self.data.values) if key.startswith(prefix) and self._exists(key)]]

    # Strings

    def _get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._get_value(key, bytes)
        return value

    def _mget(self, *keys: bytes) -> list[bytes | None]:
        return [value if isinstance(value := self._get_value(key, object), bytes) else None for key in keys]

    def _set(self, key: bytes, value: bytes, *options: bytes) -> Status:
        self._drop(key)
        self.data.values[key] = value
        if options:
            assert options[0].upper() == b"EX"
            self.data.expires[key] = self.time_us() // 1000 + int(options[1]) * 1000
        return OK

    # Hashes

    def _hget(self, key: bytes, field_name: bytes) -> bytes | None:
        value: bytes | None = (self._get_value(key, dict) or {}).get(field_name)
        return value

    def _hmget(self, key: bytes, *field_names: bytes) -> list[bytes | None]:
        found = self._get_value(key, dict) or {}
        return [found.get(name) for name in field_names]

    def _hgetall(self, key: bytes) -> list[bytes]:
        return [part for pair in (self._get_value(key, dict) or {}).items() for part in pair]

    def _hkeys(self, key: bytes) -> list[bytes]:
        return self._hgetall(key)[::2]

    def _hlen(self, key: bytes) -> int:
        return len(self._hkeys(key))

    def _hset(self, key: bytes, *pairs: bytes) -> int:
        found = self._make(key, dict)
        before = len(found)
        found.update(zip(pairs[::2], pairs[1::2], strict=True))
        return len(found) - before

    def _hsetnx(self, key: bytes, field_name: bytes, value: bytes) -> int:
        found = self._make(key, dict)
        if field_name in found:
            return 0
        found[field_name] = value
        return 1

    def _hdel(self, key: bytes, *field_names: bytes) -> int:
        found = self._get_value(key, dict) or {}
        removed = sum(found.pop(name, None) is not None for name in field_names)
        self._drop_if_empty(key, found)
        return removed

    # Sets and sorted sets

    def _sadd(self, key: bytes, *members: bytes) -> int:
        found = self._make(key, set)
        before = len(found)
        found.update(members)
        return len(found) - before

    def _srem(self, key: bytes, *members: bytes) -> int:
        found = self._get_value(key, set) or set()
        before = len(found)
        found.difference_update(members)
        self._drop_if_empty(key, found)
        return before - len(found)

    def _smembers(self, key: bytes) -> list[bytes]:
        return sorted(self._get_value(key, set) or ())

    def _zadd(self, key: bytes, score: bytes, member: bytes) -> int:
        found = self._make(key, _SortedSet)
        is_new = member not in found
        found[member] = float(score)
        return int(is_new)

    def _zscore(self, key: bytes, member: bytes) -> bytes | None:
        score = (self._get_value(key, _SortedSet) or {}).get(member)
        return None if score is None else b"%.17g" % score

    def _zcount(self, key: bytes, above: bytes, greatest: bytes) -> int:
        """How many scores are above a bound; all that is ever asked is ``(bound +inf``."""
        assert above[:1] == b"("
        assert greatest == b"+inf"
        return sum(score > float(above[1:]) for score in (self._get_value(key, _SortedSet) or {}).values())

    def _zremrangebyscore(self, key: bytes, least: bytes, greatest: bytes) -> int:
        found = self._get_value(key, _SortedSet) or {}
        gone = [member for member, score in found.items() if float(least) <= score <= float(greatest)]
        for member in gone:
            del found[member]
        self._drop_if_empty(key, found)
        return len(gone)

    # Streams

    def _xadd(self, key: bytes, record_id: bytes, *fields: bytes) -> bytes:
        new_id = _parsed(record_id, 0)
        stream = self._get_value(key, Stream) or Stream()
        if new_id <= stream.last_id:
            raise Refused("ERR The ID specified in XADD is equal or smaller than the target stream top item")
        self.data.values[key] = stream
        stream.records.append((new_id, list(fields)))
        stream.last_id = new_id
        stream.added += 1
        self.on_record(new_id, list(fields))
        return _shown(new_id)

    def _xlen(self, key: bytes) -> int:
        return len((self._get_value(key, Stream) or Stream()).records)

    def _xrange(self, key: bytes, first: bytes, last: bytes, *count: bytes) -> list[Any]:
        stream = self._get_value(key, Stream) or Stream()
        found = stream.between(_parsed(first, 0), _parsed(last, _ID_MAX[1]))
        return [_record(each) for each in found[: int(count[1]) if count else None]]

    def _xrevrange(self, key: bytes, last: bytes, first: bytes, *count: bytes) -> list[Any]:
        stream = self._get_value(key, Stream) or Stream()
        found = stream.between(_parsed(first, 0), _parsed(last, _ID_MAX[1]))[::-1]
        return [_record(each) for each in found[: int(count[1]) if count else None]]

    def _xread(self, *options: bytes) -> list[Any] | None:
        names = [option.upper() for option in options]
        key, after = options[names.index(b"STREAMS") + 1 :]
        count = int(options[names.index(b"COUNT") + 1])
        ms, sequence = _parsed(after, 0)
        found = (self._get_value(key, Stream) or Stream()).between((ms, sequence + 1), _ID_MAX)[:count]
        return [[key, [_record(each) for each in found]]] if found else None

    def _xtrim(self, key: bytes, _minid: bytes, lowest: bytes) -> int:
        stream = self._get_value(key, Stream)
        if stream is None:
            return 0
        kept = stream.between(_parsed(lowest, 0), _ID_MAX)
        removed = len(stream.records) - len(kept)
        stream.records = kept
        return removed

    def _xsetid(self, key: bytes, last_id: bytes, _word: bytes, added: bytes) -> Status:
        stream = self._get_value(key, Stream)
        if stream is None:
            raise Refused("ERR no such key")
        stream.last_id, stream.added = _parsed(last_id, 0), int(added)
        return OK

    def _xinfo(self, _stream: bytes, key: bytes) -> list[Any]:
        stream = self._get_value(key, Stream)
        if stream is None:
            raise Refused("ERR no such key")
        return [
            b"length",
            len(stream.records),
            b"last-generated-id",
            _shown(stream.last_id),
            b"entries-added",
            stream.added,
            b"groups",
            len(stream.groups),
            b"first-entry",
            _record(stream.records[0]) if stream.records else None,
            b"last-entry",
            _record(stream.records[-1]) if stream.records else None,
        ]

    def _xgroup(self, action: bytes, key: bytes, group: bytes, at: bytes, _word: bytes, read: bytes) -> Status:
        stream = self._get_value(key, Stream)
        if stream is None:
            raise Refused("ERR The XGROUP subcommand requires the key to exist.")
        if action.upper() == b"SETID" and group not in stream.groups:
            raise Refused("NOGROUP No such consumer group for key name")
        if action.upper() == b"CREATE" and group in stream.groups:
            raise Refused("BUSYGROUP Consumer Group name already exists")
        stream.groups[group] = _parsed(at, 0), int(read)
        return OK

    # The server

    def _time(self) -> list[bytes]:
        now = self.time_us()
        return [b"%d" % (now // 1_000_000), b"%d" % (now % 1_000_000)]

    def _client(self, *_: bytes) -> Status:
        return OK

    def _config(self, _get: bytes, *names: bytes) -> list[bytes]:
        settings = {
            b"appendonly": b"yes",
            b"appendfsync": b"always",
            b"no-appendfsync-on-rewrite": b"no",
            b"maxmemory-policy": b"noeviction",
        }
        return [part for name in names for part in (name, settings[name])]

    def _info(self, *_: bytes) -> bytes:
        return b"# Memory\r\nused_memory:1000000\r\nmaxmemory:0\r\n"

    def _memory(self, _usage: bytes, key: bytes, *_samples: bytes) -> int | None:
        stream = self._get_value(key, Stream)
        return None if stream is None else 240 * len(stream.records)

    # Scripts

    def _script(self, _load: bytes, text: bytes) -> bytes:
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()
        self._scripts[sha] = text
        return sha

    def _evalsha(self, sha: bytes, keys_count: bytes, *arguments: bytes) -> Any:
        if sha not in self._scripts:
            raise Refused("NOSCRIPT No matching script.")
        count = int(keys_count)
        return _lua().run(self._scripts[sha], arguments[:count], arguments[count:], self)


class _SortedSet(UserDict[bytes, float]):
    """Members and their scores; no dict, which a hash is here."""


class _Lua:
    """The interpreter, which runs one script at a time, for one server at a time."""

    def __init__(self) -> None:
        self._lua = lua51.LuaRuntime(encoding=None, register_eval=False)
        self._compiled: dict[bytes, Any] = {}
        self._server: RedisModel | None = None
        self._table = self._lua.table_from
        api = self._lua.table()
        api[b"call"] = self._call
        api[b"error_reply"] = lambda text: self._table({b"err": text})
        self._lua.globals()[b"redis"] = api

    def run(self, script: bytes, keys: tuple[bytes, ...], arguments: tuple[bytes, ...], server: RedisModel) -> Any:
        """The reply of a script."""
        function = self._compiled.get(script)
        if function is None:
            text = b"\n" + script.split(b"\n", 1)[1] if script.startswith(b"#!") else script
            function = self._lua.execute(b"return function(KEYS, ARGV) " + text + b"\nend")
            self._compiled[script] = function
        self._server = server
        return _reply_of(function(self._table(keys), self._table(arguments)))

    def _call(self, *parts: Any) -> Any:
        assert self._server is not None
        return self._to_lua(self._server.execute([_argument(part) for part in parts]))

    def _to_lua(self, reply: Any) -> Any:
        if reply is None:
            return False
        if isinstance(reply, Status):
            return self._table({b"ok": reply.encode()})
        if isinstance(reply, list):
            return self._table([self._to_lua(each) for each in reply])
        return reply


@cache
def _lua() -> _Lua:
    return _Lua()


def _argument(part: Any) -> bytes:
    if isinstance(part, bytes):
        return part
    return b"%.17g" % part


def _reply_of(value: Any) -> Any:
    """What Redis makes of the value that a script returns."""
    if value is None or value is False:
        return None
    if value is True:
        return 1
    if isinstance(value, bytes):
        return value
    if isinstance(value, int | float):
        return int(value)
    if value[b"err"] is not None:
        raise Refused(value[b"err"].decode())
    if value[b"ok"] is not None:
        return Status(value[b"ok"].decode())
    return [_reply_of(value[index]) for index in range(1, len(value) + 1)]


def _id_of(record: Record) -> Id:
    return record[0]


def _parsed(text: bytes, sequence: int) -> Id:
    if text in (b"-", b"+"):
        return _ID_MIN if text == b"-" else _ID_MAX
    ms, has_sequence, rest = text.partition(b"-")
    return int(ms), int(rest) if has_sequence else sequence


def _shown(record_id: Id) -> bytes:
    return b"%d-%d" % record_id


def _record(record: Record) -> list[Any]:
    return [_shown(record[0]), list(record[1])]


def encoded(reply: Any) -> bytes:
    """A reply as it is sent (RESP2)."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, Refused):
        return b"-%s\r\n" % str(reply).encode()
    if isinstance(reply, Status):
        return b"+%s\r\n" % reply.encode()
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    return b"*%d\r\n" % len(reply) + b"".join(map(encoded, reply))
