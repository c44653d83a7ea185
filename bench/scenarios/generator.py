"""Whether the generators are fast enough: how idle they are while a server that does nothing answers all it can."""

from __future__ import annotations

from itertools import repeat
from typing import Final

from bench import openloop, wrk
from bench.openloop import Request
from bench.results import Figure, at_most, measured_figure
from bench.scenarios.context import Context
from bench.server import bare, serving
from bench.wrk import Requests

RATE: Final = 2_000
BODY_BYTES: Final = 300


def generators(context: Context) -> list[Figure]:
    """wrk at its fastest, the open loop at a rate, against the bare server on the server's core."""
    scale = context.scale.few
    with serving(bare(context.directory, BODY_BYTES)) as server:
        requests = Requests("/", 1)
        wrk.warm_up(server.url, requests, seconds=scale.warm_up_seconds, connections=scale.connections)
        runs = [
            wrk.run(server.url, requests, seconds=scale.seconds, connections=scale.connections, seed=number)
            for number in range(scale.rounds)
        ]
        asked = repeat(openloop.get(server.url, "/"))
        outcome = openloop.run(
            (Request("get", server.url, message) for message in asked), rate=RATE, seconds=2 * scale.seconds
        )
    return [
        measured_figure(
            "wrk_cpu",
            "wrk's share of its core while the bare server answers all it can",
            [run.generator_cpu for run in runs],
            "of a core",
            at_most(0.5),
            beside={"requests_per_second": [run.rate for run in runs]},
        ),
        measured_figure(
            "open_loop_cpu",
            f"the open loop's share of its core at {RATE:,} requests/s",
            [outcome.generator_cpu],
            "of a core",
            at_most(0.5),
            beside={"ms": outcome.summary("get"), "failed": outcome.failed},
        ),
    ]
