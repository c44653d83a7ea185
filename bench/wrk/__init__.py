"""wrk: as many requests as a server answers over some connections, the next one as soon as one is answered.

What it says of latencies is of that load only: it does not know of requests that waited to be sent. Percentiles at a
given rate are bench/openloop.py's.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bench.machine import LOAD_CORE

SCRIPT: Final = Path(__file__).with_name("requests.lua")
TIMEOUT_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Requests:
    """What to ask for: ``prefix``, one of ``count`` ids from ``first`` on in equal steps, if there is one, ``suffix``.

    ``tokens`` is a file of bearer tokens, a line each; ``%d`` in the ``body`` becomes a number. Each connection
    waits for about ``pause_ms`` before each request.
    """

    prefix: str
    first: int | None = None
    step: int = 1
    count: int = 1
    suffix: str = ""
    method: str = "GET"
    tokens: Path | None = None
    body: str = ""
    pause_ms: int = 0

    def path(self, number: int) -> str:
        """The path with the id of this number, from 0."""
        found = "" if self.first is None else str(self.first + self.step * number)
        return f"{self.prefix}{found}{self.suffix}"

    def arguments(self, seed: int) -> list[str]:
        """The script's arguments."""
        ids = {
            "first": self.first or 0,
            "step": self.step,
            "count": 0 if self.first is None else self.count,
            "seed": seed,
            "pause": self.pause_ms,
        }
        texts = {"method": self.method, "prefix": self.prefix, "suffix": self.suffix, "body": self.body}
        return [f"{key}={value}" for key, value in {**ids, **texts, "tokens": self.tokens or ""}.items()]


class Run(msgspec.Struct, frozen=True):
    """What a run was answered: good answers a second, latencies in ms; ``generator_cpu`` is a share of a core.

    ``failed`` are those that were refused, as overload perhaps, or not answered.
    """

    rate: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    generator_cpu: float
    failed: int


class Failed(Exception):
    """No request was answered as it should be: nothing was measured."""


def start(url: str, requests: Requests, *, seconds: float, connections: int, seed: int) -> subprocess.Popen[str]:
    """Begin a run on the load's core."""
    return subprocess.Popen(
        [
            *("taskset", "-c", str(LOAD_CORE), "wrk", "--threads", "1", "--connections", str(connections)),
            *("--duration", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_SECONDS}s", "--script", str(SCRIPT)),
            *(url, "--", *requests.arguments(seed)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> Run:
    """Wait for a run to end. Raises Failed when there is no result."""
    assert process.stdout is not None
    with process.stdout as stdout:
        output = stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    _, found, result = output.partition("RESULT ")
    if process.returncode or not found:
        raise Failed(f"wrk ended with {process.returncode}: {output}")
    fields = msgspec.json.decode(result, type=dict[str, float])
    seconds = fields["micros"] / 1e6
    return Run(
        rate=round((fields["requests"] - fields["failed"]) / seconds, 1),
        p50_ms=fields["p50"] / 1000,
        p90_ms=fields["p90"] / 1000,
        p99_ms=fields["p99"] / 1000,
        generator_cpu=round((used.ru_utime + used.ru_stime) / seconds, 2),
        failed=round(fields["failed"]),
    )


def run(url: str, requests: Requests, *, seconds: float, connections: int, seed: int) -> Run:
    """A run, start to end. Raises Failed when nothing was answered as it should be."""
    found = finish(start(url, requests, seconds=seconds, connections=connections, seed=seed))
    if found.rate <= 0:
        raise Failed(f"{found.failed} requests failed and none succeeded: {url} {requests}")
    return found


def warm_up(url: str, requests: Requests, *, seconds: float, connections: int) -> None:
    """A run that nothing is concluded from."""
    finish(start(url, requests, seconds=seconds, connections=connections, seed=0))
