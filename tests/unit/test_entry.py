"""Entries of the log as they are read: also those that append.lua has not written."""

from __future__ import annotations

import pytest

from services.common.log.entry import parse


@pytest.mark.parametrize("number", [b"", b"-1", b"+1", b"1.0", "\u0661".encode(), b"9" * 17, b"9" * 5000])
def test_a_number_that_is_none_of_ours_is_no_number(number: bytes) -> None:
    """One of 5000 digits ended every process that read it; one beyond 64 bits fits no database."""
    entry = parse(b"1763818000000-3", {b"e": b"tweet_created", b"v": number, b"p": number, b"d": b"{}"})
    assert (entry.version, entry.prev) == (0, -1)
