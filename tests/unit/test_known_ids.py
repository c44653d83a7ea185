"""Ids that are known are bounded, and those in use are kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.write.known_ids import KnownIds


@given(steps=st.lists(st.tuples(st.sampled_from(["add", "look", "discard"]), st.integers(-12, 12)), max_size=100))
def test_what_is_known_was_added_and_not_discarded(steps: list[tuple[str, int]]) -> None:
    """And there are never more than may be, whichever are looked at."""
    known, added = KnownIds(8), set[int]()
    for step, item_id in steps:
        match step:
            case "add":
                known.add(item_id)
                added.add(item_id)
                assert item_id in known
            case "look":
                assert item_id not in known or item_id in added
            case _:
                known.discard(item_id)
                added.discard(item_id)
                assert item_id not in known
    assert sum(item_id in known for item_id in range(-12, 13)) <= 8


def test_what_is_looked_at_again_and_again_is_kept() -> None:
    """However many others come meanwhile; those nobody has asked for are gone."""
    known = KnownIds(10)
    known.add(1)
    for item_id in range(2, 100):
        known.add(item_id)
        assert 1 in known
    assert 50 not in known


def test_nothing_is_dropped_that_there_is_room_for() -> None:
    """Half of what there may be is always kept, whatever came before."""
    known = KnownIds(10)
    for item_id in range(100):
        known.add(item_id)
        newest = range(max(0, item_id - 4), item_id + 1)
        assert all(each in known for each in reversed(newest))


def test_all_can_be_forgotten() -> None:
    """Those not used for a while, too."""
    known = KnownIds(4)
    for item_id in range(4):
        known.add(item_id)
    known.clear()
    assert not any(item_id in known for item_id in range(4))
