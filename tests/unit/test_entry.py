"""Entries of the log as they are read: also those that append.lua has not written."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.common.ids import position_from_entry_id
from services.common.log.entry import Entry, parse, parse_pairs

_NAMES = st.sampled_from([b"e", b"v", b"p", b"d", b"i", b"x", b""])
_VALUES = st.one_of(st.sampled_from([b"tweet_liked", b"1", b"-1", b"007", b"{}", b"9" * 17]), st.binary(max_size=20))


@pytest.mark.parametrize("number", [b"", b"-1", b"+1", b"1.0", "\u0661".encode(), b"9" * 17, b"9" * 5000])
def test_a_number_that_is_none_of_ours_is_no_number(number: bytes) -> None:
    """One of 5000 digits ended every process that read it; one beyond 64 bits fits no database."""
    entry = parse(b"1763818000000-3", {b"e": b"tweet_created", b"v": number, b"p": number, b"d": b"{}"})
    assert (entry.version, entry.prev) == (0, -1)


def test_a_record_of_append_lua_is_its_entry() -> None:
    """Each field of what was appended is where it belongs."""
    pairs = [b"e", b"tweet_liked", b"v", b"1", b"p", b"7", b"d", b"{}", b"i", b"claim"]
    position = position_from_entry_id("1763818000000-3")
    assert parse_pairs(b"1763818000000-3", pairs[:8]) == Entry(position, 7, "tweet_liked", 1, b"{}")
    assert parse_pairs(b"1763818000000-3", pairs) == Entry(position, 7, "tweet_liked", 1, b"{}", b"claim")


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=7), st.lists(_VALUES, min_size=4, max_size=5))
@example([], [b"tweet_liked", b"1", b"7", b"{}", b"claim"])
def test_a_record_is_the_same_entry_however_fast_it_is_parsed(
    others: list[tuple[bytes, bytes]], values: list[bytes]
) -> None:
    """Those that append.lua wrote, and those that lack fields, have them twice, in another order, or others."""
    ours = list(zip((b"e", b"v", b"p", b"d", b"i"), values, strict=False))
    for record in (ours, others, [*ours, *others], [*others, *ours], ours[::-1]):
        pairs = [text for pair in record for text in pair]
        assert parse_pairs(b"1763818000000-3", pairs) == parse(b"1763818000000-3", dict(record))
