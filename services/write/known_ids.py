"""A set of ids that is bounded, and keeps those that are in use."""

from __future__ import annotations


class KnownIds:
    """At most ``ids_max`` integers, of which those that were not looked at for longest are dropped first, many at once.

    Two sets, the older of which is dropped when the younger one is half of what there may be. An order of all, as an
    OrderedDict keeps it, takes three times the memory.
    """

    def __init__(self, ids_max: int) -> None:
        self._each_max = ids_max // 2
        self._young: set[int] = set()
        self._old: set[int] = set()

    def __contains__(self, item_id: int) -> bool:
        """Whether it is known; if so, it was used just now."""
        if item_id in self._young:
            return True
        if item_id not in self._old:
            return False
        self.add(item_id)
        return True

    def add(self, item_id: int) -> None:
        """Know it from now on."""
        self._old.discard(item_id)
        if len(self._young) >= self._each_max and item_id not in self._young:
            self._young, self._old = set(), self._young
        self._young.add(item_id)

    def discard(self, item_id: int) -> None:
        """Know it no longer."""
        self._young.discard(item_id)
        self._old.discard(item_id)

    def clear(self) -> None:
        """Know nothing."""
        self._young.clear()
        self._old.clear()
