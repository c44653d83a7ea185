"""Where the real world would get in: clocks, sleep, fsync, connections to SQLite, threads of anyio, logs."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import cache, partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import redis.utils
import structlog
from sqlalchemy import Dialect, Engine, Pool, create_engine, make_url

from services.common.database import sqlite
from services.common.views import Reader
from services.db_updater import snapshots
from tests.simulation.world import World


@contextmanager
def simulated(world: World, at_fsync: Callable[[], None]) -> Iterator[None]:
    """While this lasts, the project's code lives in a world. ``at_fsync`` is called in place of fsync."""

    def fsync(_descriptor: int) -> None:
        if world.is_in_thread():
            at_fsync()

    with (
        patch.object(time, "monotonic", lambda: 1000.0 + world.now),
        patch.object(time, "time", lambda: world.wall_ms() / 1000),
        patch.object(time, "time_ns", lambda: world.wall_ms() * 1_000_000),
        patch.object(time, "clock_gettime_ns", lambda _clock: int((1000.0 + world.now) * 1e9)),
        patch.object(time, "sleep", world.sleep),
        patch.object(os, "fsync", fsync),
        patch.object(snapshots, "to_thread", SimpleNamespace(run_sync=asyncio.to_thread)),
        patch.object(sqlite, "create_engine", partial(_create_engine, world)),
        patch.object(Reader, "_compile", _compile),
        patch.object(redis.utils, "get_lib_version", lambda: "0"),  # it reads files, for each connection
        _logs(world),
    ):
        yield


def _create_engine(world: World, url: str, *, module: Any, poolclass: type[Pool], connect_args: Any) -> Engine:
    """An engine whose connections are taken from a process when it is killed, and that compiles nothing twice."""

    def connect() -> Any:
        connection = module.connect(url.removeprefix("sqlite:///"), **connect_args)
        if world.current is not None:
            world.current.at_kill.append(connection.close)
        return connection

    dialect, compiled = _dialect(module)
    engine = Engine(poolclass(connect, dialect=dialect), dialect, make_url(url))
    engine._compiled_cache = compiled
    return engine


@cache
def _dialect(module: Any) -> tuple[Dialect, Any]:
    """What all engines of all schedules share: statements are compiled for a dialect."""
    engine = create_engine("sqlite://", module=module)
    with engine.connect():
        return engine.dialect, engine._compiled_cache


_compile_once = Reader._compile
_compiled: dict[Any, Any] = {}


def _compile(reader: Reader, statement: Any) -> Any:
    if statement not in _compiled:
        _compiled[statement] = _compile_once(reader, statement)
    return _compiled[statement]


@contextmanager
def _logs(world: World) -> Iterator[None]:
    """What the programs log is part of the trace."""

    def to_trace(_logger: object, level: str, event: MutableMapping[str, Any]) -> Any:
        who = world.current.name if world.current else "-"
        world.note(who, f"[{level}] {event.pop('event')}", **event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[to_trace],
        wrapper_class=structlog.make_filtering_bound_logger("DEBUG" if world.is_traced else "CRITICAL"),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
