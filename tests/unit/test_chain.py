"""A follower applies an entry only if it continues from where the follower is."""

from __future__ import annotations

import pytest

from services.common.errors import BehindHorizon, LogForked, NewerVersion
from services.common.log.entry import Entry, parse
from services.common.log.subscription import check_chain


def entry(position: int, prev: int, name: str = "tweet_liked", version: int = 1) -> Entry:
    """An entry of which only the place in the log matters."""
    return Entry(position, prev, name, version, b"{}")


def test_an_unbroken_chain_passes_whole() -> None:
    """Each prev is the position before it."""
    chain = [entry(5, 3), entry(6, 5), entry(9, 6)]
    assert check_chain(chain, after_position=3) == chain


def test_the_entries_before_a_break_are_delivered_first() -> None:
    """What is sound is applied; the break shows at the next read."""
    assert check_chain([entry(5, 3), entry(9, 6)], after_position=3) == [entry(5, 3)]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (entry(9, 6), BehindHorizon),
        (entry(9, 2), LogForked),
        (entry(9, 2, name="epoch_started"), BehindHorizon),
        (entry(9, 6, name="epoch_started"), BehindHorizon),
        (entry(9, -1, name="foreign"), LogForked),
        (entry(9, 3, version=2), NewerVersion),
    ],
    ids=["gap", "fork", "epoch_from_an_older_state", "epoch_from_a_newer_state", "foreign_record", "newer_version"],
)
def test_an_entry_that_does_not_continue_is_never_delivered(first: Entry, expected: type[Exception]) -> None:
    """HAZARDS 1, 5, 20: each break has its own way out, and none of them is to go on."""
    with pytest.raises(expected):
        check_chain([first], after_position=3)


def test_a_record_that_another_program_wrote_is_parsed_but_continues_from_nowhere() -> None:
    """An operator's XADD into the stream stops followers instead of crashing them."""
    foreign = parse(b"1763817660123-0", {b"hello": b"world", b"v": b"x"})
    assert (foreign.prev, foreign.name, foreign.version) == (-1, "", 0)
