"""An entry of the log, parsed to comparable types at the border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from services.common.ids import POSITION_MAX, position_from_entry_id

_DIGITS_MAX: Final = len(str(POSITION_MAX))
"""Longer numbers nobody of ours has written; they fit no database, and Python refuses those of thousands."""
_NAMES: Final = [b"e", b"v", b"p", b"d"]
"""Of the fields, as append.lua writes them: type, version, prev, payload."""
_NAMES_WITH_CLAIM: Final = [*_NAMES, b"i"]


class Entry(Struct, frozen=True, array_like=True, gc=False):
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
        return replace(self, claim=b"") if self.claim else self


def parse(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """Parse a stream record ``{e: type, v: version, p: prev, d: payload}``, with ``i: claim`` perhaps.

    A record that append.lua did not write may lack fields: without a type or version it becomes a dead letter;
    without ``prev`` (-1 here) no follower passes it, because nobody can say what came before it.
    """
    name, version, prev = fields.get(b"e", b""), fields.get(b"v", b""), fields.get(b"p", b"")
    return _entry(entry_id, name, version, prev, fields.get(b"d", b""), fields.get(b"i", b""))


def parse_pairs(entry_id: bytes, pairs: Sequence[bytes]) -> Entry:
    """The same, of names and values by turns, as Redis tells them; at once where they are as append.lua writes them."""
    names = pairs[::2]
    if names in (_NAMES, _NAMES_WITH_CLAIM):
        return _entry(entry_id, *pairs[1::2])
    return parse(entry_id, dict(zip(names, pairs[1::2], strict=True)))


def _entry(entry_id: bytes, name: bytes, version: bytes, prev: bytes, payload: bytes, claim: bytes = b"") -> Entry:
    return Entry(
        position_from_entry_id(entry_id.decode()),
        int(prev) if prev.isdigit() and len(prev) <= _DIGITS_MAX else -1,
        _name(name),
        _version(version),
        payload,
        claim,
    )


@lru_cache(maxsize=64)
def _name(text: bytes) -> str:
    """There are few, and most entries have one of five."""
    return text.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


@lru_cache(maxsize=64)
def _version(text: bytes) -> int:
    return int(text) if text.isdigit() and len(text) <= _DIGITS_MAX else 0
