"""An entry of the log, parsed to comparable types at the border."""

from __future__ import annotations

from collections.abc import Mapping
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
    return Entry(
        position=position_from_entry_id(entry_id.decode()),
        prev=_integer(fields.get(b"p"), otherwise=-1),
        name=fields.get(b"e", b"").decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}"),
        version=_integer(fields.get(b"v"), otherwise=0),
        payload=fields.get(b"d", b""),
        claim=fields.get(b"i", b""),
    )


def _integer(text: bytes | None, otherwise: int) -> int:
    return int(text) if text is not None and text.isdigit() else otherwise
