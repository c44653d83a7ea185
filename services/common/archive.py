"""The archive: every entry of the log, in checksummed, compressed segments on the owner's volume.

Archive + stream = the whole log: entries are archived before they are trimmed, so a database can always be
rebuilt from nothing.

Format
    A directory of segments ``{first position, 16 digits}.segment``, so that names sort by position. A segment is
    a sequence of frames, one a call of ``append``; a segment that has reached ``ARCHIVE_SEGMENT_BYTES`` is followed
    by a new one. A frame is a header, big-endian, and a payload:

    ========  =====  ===========================================================
    magic     4 B    ``TWA1``; another format gets another magic
    prev      8 B    the position before its first entry (= ``last`` of the frame before it)
    last      8 B    the position of its last entry
    entries   4 B    how many entries it holds
    bytes     4 B    the length of its payload
    checksum  4 B    CRC-32 of everything above and the payload
    payload          zlib, level 1, of a msgpack list of ``[position, prev, name, version, payload]``
    ========  =====  ===========================================================

Crash
    A frame counts once it was fsynced with all before it. What a crash leaves behind the last whole frame is a torn
    tail: the owner cuts it off when it opens the archive and fills in again from the log; readers stop before it.
    A damaged frame with a whole one behind it is no torn tail but damage: StorageUnfit.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec
import structlog

from services.common import faults
from services.common.errors import BehindHorizon, StorageUnfit
from services.common.fsync import fsync_path
from services.common.ids import BEGINNING
from services.common.log.entry import Entry

ARCHIVE_SEGMENT_BYTES: Final = 16 * 2**20
COMPRESSION_LEVEL: Final = 1
SUFFIX: Final = ".segment"
MAGIC: Final = b"TWA1"

_HEADER = struct.Struct(">4sQQII")
_CHECKSUM = struct.Struct(">I")
_PREFIX_BYTES = _HEADER.size + _CHECKSUM.size

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Entry])
_logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Frame:
    """A whole, undamaged frame within a segment; ``end`` is the offset behind it."""

    offset: int
    end: int
    prev: int
    last: int
    entries_count: int
    payload: memoryview


class Archive:
    """The archive as its one writer sees it: appends are durable when they return, and repeatable.

    Opening cuts off a torn tail. Raises StorageUnfit for a damaged last segment, OSError when the volume fails;
    after an OSError the same append may be tried again.
    """

    def __init__(self, directory: Path, *, segment_bytes_max: int = ARCHIVE_SEGMENT_BYTES) -> None:
        self.position = BEGINNING
        """The position of the last entry archived."""
        self.size_bytes = 0
        """The size of all segments together."""
        self._directory = directory
        self._segment_bytes_max = segment_bytes_max
        self._segment: _LastSegment | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._open_last_segment()

    def append(self, entries: Sequence[Entry]) -> None:
        """Archive consecutive entries with one fsync; those archived before are passed over.

        Raises StorageUnfit when entries between ``position`` and these are missing.
        """
        fresh = [entry.kept for entry in entries if entry.position > self.position]
        if not fresh:
            return
        if fresh[0].prev != self.position:
            raise StorageUnfit(
                f"archive {self._directory} ends at {self.position}, the next entry continues after {fresh[0].prev}: "
                "entries are missing, run `twitter restore`"
            )
        segment = self._segment
        if segment is None or segment.size_bytes >= self._segment_bytes_max:
            segment = self._start_segment(fresh[0].position)
        frame = _frame(fresh)
        segment.append(frame)
        self.size_bytes += len(frame)
        self.position = fresh[-1].position

    def read(self, after_position: int = BEGINNING, entries_max: int = 1000) -> Iterator[list[Entry]]:
        """As read_archive does, for the owner itself."""
        return read_archive(self._directory, after_position, entries_max)

    def first_from(self, position: int) -> Entry | None:
        """The entry at a position, or else the first one after it; None where the archive ends before."""
        return next((entries[0] for entries in self.read(position - 1, 1)), None)

    def close(self) -> None:
        """Close the segment being written."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _start_segment(self, first_position: int) -> _LastSegment:
        segment = _LastSegment(self._directory / f"{first_position:016d}{SUFFIX}", size_bytes=0)
        self.close()
        self._segment = segment
        return segment

    def _open_last_segment(self) -> None:
        """Go on behind the last whole frame; a segment without any is dropped, then the one before it is the last."""
        segments = segment_paths(self._directory)
        while segments and self._segment is None:
            path = segments[-1]
            last = _last_whole_frame(path)
            if last is None:
                _logger.warning("archive_segment_dropped", path=str(path))
                path.unlink()
                fsync_path(self._directory)
                segments.pop()
            else:
                self._segment, self.position = _LastSegment(path, size_bytes=last.end), last.last
        self.size_bytes = sum(path.stat().st_size for path in segments)


class _LastSegment:
    """The segment being written; ``size_bytes`` counts whole frames only, what lies behind them is cut off."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._file = FileIO(path, "r+" if size_bytes else "w+")
        torn_bytes = self._file.seek(0, os.SEEK_END) - size_bytes
        if torn_bytes:
            _logger.warning("archive_torn_tail_cut", path=str(path), offset=size_bytes, bytes=torn_bytes)
            self._file.truncate(size_bytes)
        os.fsync(self._file.fileno())
        fsync_path(path.parent)

    def append(self, frame: bytes) -> None:
        """Put a frame behind the last whole one and fsync it; nothing of it counts if this raises."""
        self._file.truncate(self.size_bytes)  # an append that failed may have left a part of its frame
        self._file.seek(self.size_bytes)
        written = 0
        while written < len(frame):
            written += self._file.write(frame[written:])
        faults.reach("archive:before_fsync")
        os.fsync(self._file.fileno())
        self.size_bytes += len(frame)

    def close(self) -> None:
        self._file.close()


def read_archive(directory: Path, after_position: int = BEGINNING, entries_max: int = 1000) -> Iterator[list[Entry]]:
    """The archived entries after a position, in lists of ``entries_max`` (the last may be shorter).

    Works beside a writing owner: it ends quietly at an incomplete tail. Raises BehindHorizon when the archive
    begins after ``after_position``, StorageUnfit for damage or a gap.
    """
    pending: list[Entry] = []
    for frame_entries in _entries_by_frame(directory, after_position):
        pending += frame_entries
        while len(pending) >= entries_max:
            yield pending[:entries_max]
            pending = pending[entries_max:]
    if pending:
        yield pending


def check_archive(directory: Path) -> int:
    """The position of the last entry of an archive of which every frame is whole and continues from the one before.

    Raises BehindHorizon when it does not begin at the beginning of the log, StorageUnfit for damage or a gap.
    """
    position = BEGINNING
    for _, frame in _checked_frames(directory, BEGINNING):
        position = frame.last
    return position


def segment_paths(directory: Path) -> list[Path]:
    """The segments of an archive, oldest first. All but the last are never written again."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def _entries_by_frame(directory: Path, after_position: int) -> Iterator[list[Entry]]:
    for path, frame in _checked_frames(directory, after_position):
        if frame.last > after_position:
            yield [entry for entry in _entries(path, frame) if entry.position > after_position]


def _checked_frames(directory: Path, after_position: int) -> Iterator[tuple[Path, _Frame]]:
    """The frames from the segment on that holds what follows a position, each with its segment."""
    segments = segment_paths(directory)
    position: int | None = None
    for index, path in enumerate(segments):
        is_last = index + 1 == len(segments)
        if not is_last and _first_position(segments[index + 1]) <= after_position:
            continue
        for frame in _frames(path, may_be_torn=is_last):
            _check_continues(path, frame, position, after_position)
            position = frame.last
            yield path, frame


def _check_continues(path: Path, frame: _Frame, position: int | None, after_position: int) -> None:
    if position is None and frame.prev > after_position:
        raise BehindHorizon(f"archive {path.parent} begins after {frame.prev}, entries after {after_position} are gone")
    if position is not None and frame.prev != position:
        raise StorageUnfit(
            f"archive segment {path}, offset {frame.offset}: continues after {frame.prev} instead of {position}; "
            "restore this file and those before it from a backup"
        )


def _entries(path: Path, frame: _Frame) -> list[Entry]:
    try:
        entries = _decoder.decode(zlib.decompress(frame.payload))
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(path, frame.offset) from error
    if not entries or (len(entries), entries[0].prev, entries[-1].position) != (
        frame.entries_count,
        frame.prev,
        frame.last,
    ):
        raise _damaged(path, frame.offset)
    return entries


def _frame(entries: Sequence[Entry]) -> bytes:
    payload = zlib.compress(_encoder.encode(entries), COMPRESSION_LEVEL)
    header = _HEADER.pack(MAGIC, entries[0].prev, entries[-1].position, len(entries), len(payload))
    return header + _CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(header))) + payload


def _frames(path: Path, *, may_be_torn: bool) -> Iterator[_Frame]:
    """The whole frames of a segment in order. Raises StorageUnfit for damage that is no torn tail."""
    content = memoryview(path.read_bytes())
    offset = 0
    while (frame := _frame_at(content, offset)) is not None:
        yield frame
        offset = frame.end
    if offset < len(content) and (not may_be_torn or _holds_whole_frame(content, offset)):
        raise _damaged(path, offset)


def _frame_at(content: memoryview, offset: int) -> _Frame | None:
    """The frame that begins at this offset, None where no whole, undamaged one does."""
    begin = offset + _PREFIX_BYTES
    if begin > len(content):
        return None
    magic, prev, last, entries_count, payload_bytes = _HEADER.unpack_from(content, offset)
    end = begin + payload_bytes
    if magic != MAGIC or end > len(content):
        return None
    payload = content[begin:end]
    (checksum,) = _CHECKSUM.unpack_from(content, offset + _HEADER.size)
    if checksum != zlib.crc32(payload, zlib.crc32(content[offset : offset + _HEADER.size])):
        return None
    return _Frame(offset, end, prev, last, entries_count, payload)


def _holds_whole_frame(content: memoryview, offset: int) -> bool:
    """Whether a whole frame begins anywhere behind this offset: then what is before it is no torn tail."""
    rest = bytes(content[offset:])
    found = rest.find(MAGIC, 1)
    while found >= 0:
        if _frame_at(content, offset + found) is not None:
            return True
        found = rest.find(MAGIC, found + 1)
    return False


def _last_whole_frame(path: Path) -> _Frame | None:
    frames = deque(_frames(path, may_be_torn=True), maxlen=1)
    return frames[0] if frames else None


def _damaged(path: Path, offset: int) -> StorageUnfit:
    return StorageUnfit(f"archive segment {path}, offset {offset}: damaged; restore this file from a backup")


def _first_position(path: Path) -> int:
    return int(path.name.removesuffix(SUFFIX))
