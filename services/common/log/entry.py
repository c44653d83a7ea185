"""An entry of the log, parsed to comparable types at the border."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from services.common.ids import position_from_entry_id


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
        int(prev) if prev.isdigit() else -1,
        _name(fields.get(b"e", b"")),
        int(version) if version.isdigit() else 0,
        fields.get(b"d", b""),
        fields.get(b"i", b""),
    )


@lru_cache(maxsize=64)
def _name(text: bytes) -> str:
    """There are few, and most entries have one of five."""
    return text.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
