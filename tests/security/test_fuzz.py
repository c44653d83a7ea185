"""Every decoder on made-up input: it returns or refuses as it says, and what it takes survives being written again."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from itertools import cycle
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings

from tests.security.decoders import DECODERS, Decoder

EXAMPLES: Final = 100


def try_inputs(decoder: Decoder, inputs: int, *, repeatable: bool) -> int:
    """Give a decoder so many inputs; returns how many it was really given. Raises what it must not raise."""
    tried = 0

    @settings(
        max_examples=inputs,
        deadline=None,
        derandomize=repeatable,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(decoder.inputs)
    def try_one(given_input: Any) -> None:
        nonlocal tried
        tried += 1
        with suppress(*decoder.refusals):
            decoder.decode(given_input)

    try_one()
    return tried


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_a_decoder_refuses_as_it_says(decoder: Decoder) -> None:
    """The same inputs each time; `make fuzz` tries others."""
    try_inputs(decoder, EXAMPLES, repeatable=True)


def main(seconds: float) -> None:
    """Try new inputs on all decoders in turn for a while, and say how many."""
    tried = dict.fromkeys((decoder.name for decoder in DECODERS), 0)
    deadline = time.monotonic() + seconds
    for decoder in cycle(random.sample(DECODERS, len(DECODERS))):
        if time.monotonic() > deadline:
            break
        tried[decoder.name] += try_inputs(decoder, 10 * EXAMPLES, repeatable=False)
    for name, count in tried.items():
        print(f"{count:9,}  {name}")  # noqa: T201 - for who runs it
    print(f"{sum(tried.values()):9,}  inputs, none of which met a bug")  # noqa: T201
