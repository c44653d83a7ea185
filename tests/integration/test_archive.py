"""The archive on a real file system: what was appended is read again, whatever a crash or a disk did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from services.common.archive import Archive, read_archive
from services.common.errors import BehindHorizon, StorageUnfit
from services.common.log.entry import Entry
from tests.support.limits import files_limited_to


def entries(first: int, last: int, payload: bytes = b'{"user_id":1,"content":"hello"}') -> list[Entry]:
    """Consecutive entries at the positions first..last."""
    return [Entry(position, position - 1, "tweet_created", 1, payload) for position in range(first, last + 1)]


def positions(directory: Path, after_position: int = 0) -> list[int]:
    """What a reader finds after a position."""
    return [entry.position for batch in read_archive(directory, after_position) for entry in batch]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Archive]]:
    """Opens the archive as its owner would; the test may open it again and again."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Archive(tmp_path)))


def filled(directory: Path, *lasts: int, segment_bytes_max: int = 2**24) -> list[Path]:
    """An archive with one frame up to each of these positions; its segments."""
    with closing(Archive(directory, segment_bytes_max=segment_bytes_max)) as archive:
        for last in lasts:
            archive.append(entries(archive.position + 1, last))
    return sorted(directory.iterdir())


def damage(segment: Path, offset: int) -> None:
    """Flip one byte."""
    content = bytearray(segment.read_bytes())
    content[offset] ^= 0xFF
    segment.write_bytes(content)


def test_entries_are_read_as_they_were_appended(opened: Callable[[], Archive]) -> None:
    """Any bytes survive: a payload need not be valid JSON, a foreign entry may have an empty name."""
    strange = [Entry(5, 0, "", 0, b"\xff\x00"), Entry(2**53 - 1, 5, "ünknown", 99, b"")]
    archive = opened()
    archive.append(strange)
    assert list(archive.read()) == [strange]


def test_reader_regroups_frames_into_batches(tmp_path: Path) -> None:
    """Batches have the size asked for, whatever the frames were."""
    filled(tmp_path, 1, 5, 6, 20)
    assert [len(batch) for batch in read_archive(tmp_path, 0, entries_max=7)] == [7, 7, 6]


@pytest.mark.parametrize("after_position", [0, 1, 4, 5, 6, 19, 20, 21])
def test_reader_begins_after_any_position(tmp_path: Path, after_position: int) -> None:
    """Inside a frame, at its end, at the end of a segment, behind everything."""
    filled(tmp_path, 1, 5, 6, 20, segment_bytes_max=1)
    assert positions(tmp_path, after_position) == list(range(after_position + 1, 21))


def test_full_segment_is_followed_by_another(tmp_path: Path, opened: Callable[[], Archive]) -> None:
    """Segments are named by their first position and the writer goes on in the last one after reopening."""
    segments = filled(tmp_path, 3, 6, 9, segment_bytes_max=1)
    assert [segment.name for segment in segments] == [f"{first:016d}.segment" for first in (1, 4, 7)]
    filled(tmp_path, 12)
    assert positions(tmp_path) == list(range(1, 13))
    assert opened().size_bytes == sum(segment.stat().st_size for segment in segments)


def test_entries_archived_before_are_passed_over(tmp_path: Path, opened: Callable[[], Archive]) -> None:
    """A replay after a crash appends what is there already, partly or wholly."""
    filled(tmp_path, 5)
    archive = opened()
    archive.append(entries(1, 5))
    archive.append(entries(3, 8))
    assert archive.position == 8
    assert positions(tmp_path) == list(range(1, 9))


def test_gap_is_refused(tmp_path: Path, opened: Callable[[], Archive]) -> None:
    """An archive with a hole would rebuild another state than the log's."""
    archive = opened()
    with pytest.raises(StorageUnfit, match="twitter restore"):
        archive.append(entries(2, 3))
    archive.append(entries(1, 3))
    with pytest.raises(StorageUnfit, match="ends at 3, the next entry continues after 4"):
        archive.append(entries(5, 6))
    assert positions(tmp_path) == [1, 2, 3]


def test_torn_tail_of_any_length_is_cut_off(tmp_path: Path, opened: Callable[[], Archive]) -> None:
    """A crash may leave any prefix of the last frame: a reader stops before it, the owner goes on before it."""
    (segment,) = filled(tmp_path, 3)
    whole_bytes = segment.stat().st_size
    filled(tmp_path, 5)
    content = segment.read_bytes()
    for cut in range(whole_bytes, len(content)):
        segment.write_bytes(content[:cut])
        assert positions(tmp_path) == [1, 2, 3]
        archive = opened()
        assert archive.position == 3
        assert segment.stat().st_size == archive.size_bytes == whole_bytes
        archive.append(entries(4, 5))
        archive.close()
        assert segment.read_bytes() == content


def test_tail_of_zeroes_is_cut_off(tmp_path: Path, opened: Callable[[], Archive]) -> None:
    """After a power cut a file may have grown before its content arrived."""
    (segment,) = filled(tmp_path, 3)
    whole = segment.read_bytes()
    segment.write_bytes(whole + bytes(500))
    assert positions(tmp_path) == [1, 2, 3]
    assert opened().position == 3
    assert segment.read_bytes() == whole


def test_segment_without_a_whole_frame_is_dropped(tmp_path: Path, opened: Callable[[], Archive]) -> None:
    """A crash between creating a segment and its first append: the one before it is the last again."""
    *_, last = filled(tmp_path, 3, 6, segment_bytes_max=1)
    last.write_bytes(last.read_bytes()[:10])
    assert positions(tmp_path) == [1, 2, 3]
    assert opened().position == 3
    assert not last.exists()


def test_damage_before_a_whole_frame_is_no_torn_tail(tmp_path: Path, opened: Callable[[], Archive]) -> None:
    """Every byte of an inner frame is guarded: neither owner nor reader goes on, and both say where it is."""
    (segment,) = filled(tmp_path, 3)
    inner_bytes = segment.stat().st_size
    filled(tmp_path, 6)
    for offset in range(inner_bytes):
        damage(segment, offset)
        with pytest.raises(StorageUnfit, match=f"{segment}, offset 0: damaged; restore"):
            opened()
        with pytest.raises(StorageUnfit, match=f"{segment}, offset 0: damaged; restore"):
            positions(tmp_path)
        damage(segment, offset)
    assert positions(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_damaged_end_of_an_inner_segment_is_found(tmp_path: Path) -> None:
    """Only the last segment may have a torn tail."""
    first, *_ = filled(tmp_path, 3, 6, segment_bytes_max=1)
    damage(first, -1)
    with pytest.raises(StorageUnfit, match=str(first)):
        positions(tmp_path)


def test_missing_inner_segment_is_found(tmp_path: Path) -> None:
    """A segment that was deleted leaves a gap, which no reader passes over."""
    _, second, third = filled(tmp_path, 3, 6, 9, segment_bytes_max=1)
    second.unlink()
    with pytest.raises(StorageUnfit, match=f"{third}, offset 0: continues after 6 instead of 3"):
        positions(tmp_path)


def test_reader_is_told_when_the_archive_begins_later(tmp_path: Path) -> None:
    """Without its first segment the archive cannot rebuild from nothing, but it can go on from where it begins."""
    first, *_ = filled(tmp_path, 3, 6, segment_bytes_max=1)
    first.unlink()
    with pytest.raises(BehindHorizon, match="begins after 3"):
        positions(tmp_path)
    assert positions(tmp_path, 3) == [4, 5, 6]


def test_full_disk_loses_and_doubles_nothing(tmp_path: Path, opened: Callable[[], Archive]) -> None:
    """An append that fails halfway leaves no trace once something is appended again."""
    (segment,) = filled(tmp_path, 3)
    archive = opened()
    more = entries(4, 40, payload=b"x" * 100)
    with files_limited_to(segment.stat().st_size + 200), pytest.raises(OSError, match="File too large"):
        archive.append(more)
    assert archive.position == 3
    assert positions(tmp_path) == [1, 2, 3]
    archive.append(more[:1])
    assert segment.stat().st_size == archive.size_bytes
    archive.append(more)
    assert positions(tmp_path) == list(range(1, 41))
