"""The model of Redis gives the answers of a real server to the commands and scripts of the project."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.connection import Connection
from redis.exceptions import ResponseError

from services.common import events, keys
from services.common.events import (
    AccountDeleted,
    EpochStarted,
    Event,
    TweetCreated,
    TweetDeleted,
    TweetLiked,
    UserCreated,
    UserSuspended,
    UserUpdated,
)
from services.common.ids import entry_id, position_at
from services.common.log.append import (
    KEYS,
    SCRIPT,
    AppendCall,
    AppendItem,
    CredentialChange,
    CredentialClaim,
    TokenHolder,
    encode_call,
)
from services.common.log.idempotency import IdempotencyClaim
from services.common.log.scripts import load
from tests.simulation.redis_model import RedisModel, Refused, encoded
from tests.support.redis_server import RedisServer

NOW_MS = 1_800_000_000_000
Command = tuple[bytes | str | int, ...]

SCRIPTS = {
    "append": SCRIPT,
    "start_epoch": load("start_epoch", appends=True),
    **{name: load(name) for name in ("halt", "raise_fence", "release_name", "trim")},
}


def on_test_clock(script: str) -> str:
    """A script whose TIME is a hash that the test sets, because the two servers have no clock in common."""
    return script.replace("redis.call('TIME')", "redis.call('HMGET', 'test:time', 's', 'us')")


class Both:
    """A real server and the model, asked the same."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._model = RedisModel(lambda: NOW_MS * 1000)
        self._reader = hiredis.Reader(replyError=ResponseError)
        self._shas = {}
        for command in ("FLUSHALL",), ("SCRIPT", "FLUSH"):
            self._real(*command)
        for name, script in SCRIPTS.items():
            self._shas[name] = self.ask("SCRIPT", "LOAD", on_test_clock(script))

    def ask(self, *command: bytes | str | int) -> Any:
        """The reply of both."""
        real, modelled = self._real(*command), self._modelled(*command)
        assert _shown(real) == _shown(modelled), command
        return modelled

    def ask_about(self, stream: str) -> None:
        """What both say of a stream, as far as the model says anything."""
        real, modelled = self._real("XINFO", "STREAM", stream), self._modelled("XINFO", "STREAM", stream)
        if isinstance(real, ResponseError):
            assert _shown(real) == _shown(modelled)
        else:
            known = dict(zip(modelled[::2], modelled[1::2], strict=True))
            said = dict(zip(real[::2], real[1::2], strict=True))
            assert known == {name: said[name] for name in known}

    def run(self, name: str, script_keys: tuple[str, ...], *arguments: bytes | str | int) -> Any:
        """The reply of both to a script of the project."""
        return self.ask("EVALSHA", self._shas[name], len(script_keys), *script_keys, *arguments)

    def check_data(self) -> None:
        """Both hold the same."""
        _, names = self.ask("SCAN", 0, "MATCH", "*", "COUNT", 1000)
        for name in sorted(names):
            kind = self._real("TYPE", name)
            read = {b"hash": "HGETALL", b"string": "GET", b"set": "SMEMBERS", b"stream": "XRANGE"}.get(kind)
            if read is not None:
                self.ask(read, name, *(("-", "+") if read == "XRANGE" else ()))
        self.ask("XLEN", keys.STREAM)

    def _real(self, *command: bytes | str | int) -> Any:
        self._connection.send_command(*command)  # type: ignore[no-untyped-call]  # not typed there
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error

    def _modelled(self, *command: bytes | str | int) -> Any:
        words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
        try:
            reply = self._model.execute(words)
        except Refused as refused:
            reply = refused
        self._reader.feed(encoded(reply))
        return self._reader.gets()


def _shown(reply: Any) -> Any:
    """A reply without what is no part of it: the order of sets and scans, texts after the first word of errors."""
    if isinstance(reply, ResponseError):
        return str(reply).removeprefix("ERR ").partition(" ")[0]
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list) and reply[0] == b"0":
        return reply[0], sorted(reply[1])
    return reply


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A connection to a real server, which need not keep anything."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        server.start()
        with server.client() as client:
            client.config_set("appendonly", "no")
        opened = Connection(port=server.port, protocol=2)  # type: ignore[no-untyped-call]  # not typed there
        opened.connect()  # type: ignore[no-untyped-call]  # not typed there
        yield opened
        opened.disconnect()  # type: ignore[no-untyped-call]  # not typed there
    finally:
        server.close()


ids = st.integers(0, 6)
names = st.sampled_from(["Ann", "bob", "ANN"])
claims = st.none() | st.builds(
    lambda scope, print_: IdempotencyClaim(_digest(scope), _digest(print_)), st.integers(0, 2), st.integers(0, 1)
)


def _digest(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()[:16]


def _item(number: int, drawn: tuple[int, str, int, IdempotencyClaim | None], position: int) -> AppendItem:
    """An item about the user or tweet of fixture id ``who``, or the position of something that may be there."""
    who, name, kind, claim = drawn
    about = who or max(position, 1)
    event: list[Event] = [
        UserCreated(username=name, id=who or None),
        TweetCreated(user_id=about, content=f"tweet {number}"),
        TweetDeleted(tweet_id=about, user_id=about),
        TweetLiked(tweet_id=about),
        UserUpdated(user_id=about, bio=f"bio {number}"),
        AccountDeleted(user_id=about),
        UserSuspended(user_id=about),
    ]
    chosen = event[kind]
    return AppendItem(
        chosen,
        target=about if kind == 3 else 0,
        credential=CredentialClaim(f"{name}@x.org", f"hmac {name}", "hash") if kind == 0 else None,
        change=CredentialChange(f"{number}@x.org", f"hmac {number}", None) if kind == 4 and number % 2 else None,
        holder=TokenHolder(about, position) if number % 3 == 0 else None,
        actor_id=about if number % 3 == 1 else 0,
        claim=claim,
    )


steps = st.tuples(
    st.sampled_from(["append"] * 6 + ["again", "epoch", "halt", "fence", "trim", "release", "time", "plain"]),
    st.lists(st.tuples(ids, names, st.integers(0, 6), claims), min_size=1, max_size=4),
    st.integers(-3, 6),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=5, max_size=25))
def test_scripts_give_the_answers_of_a_real_server(connection: Connection, drawn: list[Any]) -> None:
    """Appends, epochs, halts, trims in any order, with clocks that leap: each answer, and all data after each."""
    both = Both(connection)
    now_ms, head, fence, epoch, last_call = NOW_MS, 0, 0, 0, None
    both.ask("HSET", "test:time", "s", now_ms // 1000, "us", now_ms % 1000 * 1000)
    fence = both.run("raise_fence", (keys.META,), 0)
    arguments = (fence, 1, 0, 0, 0, 0, now_ms, "epoch_started", 1, events.encode(EpochStarted(epoch=1)))
    head = int(both.run("start_epoch", (keys.STREAM, keys.META, keys.CALLS, keys.DELETED), *arguments))
    epoch = 1
    for number, (action, items, offset) in enumerate(drawn):
        position = head + offset
        match action:
            case "append":
                call = AppendCall(
                    session=f"session {number % 3}",
                    number=number,
                    deadline_ms=now_ms + 400 * offset,
                    seen_position=max(head + min(offset, 1), 0),
                    clock_ms=now_ms,
                    items=[_item(number + i, drawn_item, position) for i, drawn_item in enumerate(items)],
                    is_full=offset == 6,
                )
                last_call = encode_call(call)
                reply = both.run("append", KEYS, *last_call)
                head = int(reply.split()[2])
            case "again" if last_call is not None:
                both.run("append", KEYS, *last_call)
            case "epoch":
                epoch += 1
                seen = both.ask("HMGET", keys.META, "head", "reported")
                given_ = [int(each or 0) for each in seen]
                event = events.encode(EpochStarted(epoch=epoch))
                arguments = (fence - (offset < -1), epoch, position, 5, *given_, now_ms, "epoch_started", 1, event)
                script_keys = (keys.STREAM, keys.META, keys.CALLS, keys.DELETED)
                reply = both.run("start_epoch", script_keys, *arguments)
                head = head if isinstance(reply, ResponseError) else int(reply)
            case "halt":
                evidence = ["owner", "head", entry_id(position)][offset % 3]
                both.run("halt", (keys.STREAM, keys.META), "a test", position, evidence)
            case "fence":
                fence = both.run("raise_fence", (keys.META,), max(offset, 0))
            case "trim":
                both.run("trim", (keys.STREAM, keys.META, keys.DELETED), fence, entry_id(position), position - 1)
            case "release":
                of_account = (keys.credential(items[0][0]), keys.NAME_PREFIX, keys.EMAIL_PREFIX)
                both.run("release_name", of_account, items[0][0])
            case "time":
                now_ms += 10 ** abs(offset) * (1 if offset >= 0 else -1)
                both.ask("HSET", "test:time", "s", now_ms // 1000, "us", now_ms % 1000 * 1000)
            case _:
                both.check_data()
    both.check_data()


plain = st.one_of(
    st.tuples(st.sampled_from(["XRANGE", "XREVRANGE"]), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.sampled_from(["XADD", "XTRIM", "XREAD", "XSETID", "XGROUP", "XINFO"]), st.integers(0, 9), st.just(0)),
    st.tuples(
        st.sampled_from(["SET", "GET", "MGET", "DEL", "HSET", "HSETNX", "HDEL", "HGETALL", "SADD", "SREM", "ZADD",
                         "ZSCORE", "ZCOUNT", "ZREM"]),
        st.integers(0, 3),
        st.integers(0, 9),
    ),
)  # fmt: skip


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(plain, min_size=5, max_size=40))
def test_commands_give_the_answers_of_a_real_server(connection: Connection, drawn: list[Any]) -> None:
    """Also where the key is missing, holds another type, or the id of a record is too low."""
    both = Both(connection)
    at = [entry_id(position_at(NOW_MS) + number * 1000) for number in range(10)]
    for name, key, value in drawn:
        match name:
            case "XADD":
                both.ask("XADD", "s", at[key], "f", "v")
            case "XTRIM":
                both.ask("XTRIM", "s", "MINID", at[key])
            case "XREAD":
                both.ask("XREAD", "COUNT", 3, "STREAMS", "s", at[key])
            case "XSETID":
                both.ask("XSETID", "s", at[9], "ENTRIESADDED", 100)
            case "XGROUP":
                both.ask("XGROUP", "SETID" if key % 2 else "CREATE", "s", "g", at[key], "ENTRIESREAD", 1)
            case "XINFO":
                both.ask_about("s")
            case "XRANGE" | "XREVRANGE":
                both.ask(name, "s", at[key], at[value], "COUNT", 2)
            case "SET" | "GET" | "MGET" | "DEL" | "HGETALL":
                both.ask(name, f"k{key}", *(["v"] if name == "SET" else []))
            case "HSET" | "HSETNX":
                both.ask(name, f"k{key}", f"f{value}", "v")
            case "HDEL":
                both.ask(name, f"k{key}", f"f{value}", "f0")
            case "SADD" | "SREM":
                both.ask(name, f"k{key}", value)
            case "ZADD":
                both.ask("ZADD", f"k{key}", value, f"m{value}")
            case "ZSCORE":
                both.ask("ZSCORE", f"k{key}", f"m{value}")
            case "ZCOUNT":
                both.ask("ZCOUNT", f"k{key}", f"({value}", "+inf")
            case _:
                both.ask("ZREMRANGEBYSCORE", f"k{key}", "-inf", value)
    both.check_data()
