"""An entry of the log, parsed to comparable types at the border."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from services.common.ids import POSITION_MAX, position_from_entry_id

_DIGITS_MAX: Final = len(str(POSITION_MAX))
"""Longer numbers nobody of ours has written; they fit no database, and Python refuses those of thousands."""


class Entry(NamedTuple):
    """One record of the log. ``prev`` is the position of the record before it; ``payload`` is JSON.

    ``claim`` is the scope and the fingerprint of the Idempotency-Key that it was appended under, empty without one.
    """

    position: int
    prev: int
    name: str
    version: int
    payload: bytes
    claim: bytes = b""

    @property
    def kept(self) -> Entry:
        """As it is kept for good: a claim is of use for a day, and then only tells that two requests had one key."""
        return self._replace(claim=b"") if self.claim else self


def parse(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """Parse a stream record ``{e: type, v: version, p: prev, d: payload}``, with ``i: claim`` perhaps.

    A record that append.lua did not write may lack fields: without a type or version it becomes a dead letter;
    without ``prev`` (-1 here) no follower passes it, because nobody can say what came before it.
    """
    prev, version = fields.get(b"p", b""), fields.get(b"v", b"")
    return Entry(
        position_from_entry_id(entry_id.decode()),
        int(prev) if prev.isdigit() and len(prev) <= _DIGITS_MAX else -1,
        _name(fields.get(b"e", b"")),
        int(version) if version.isdigit() and len(version) <= _DIGITS_MAX else 0,
        fields.get(b"d", b""),
        fields.get(b"i", b""),
    )


@lru_cache(maxsize=64)
def _name(text: bytes) -> str:
    """There are few, and most entries have one of five."""
    return text.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
