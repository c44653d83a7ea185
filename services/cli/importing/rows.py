"""The rows of an import, from whatever file they come: CSV, NDJSON, an edge list, or a tweet a line.

A row's number is its place among all rows of all inputs; it stays the same as long as the inputs do, and so names
the row in the journal.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TextIO

import msgspec

from services.cli.errors import USAGE, CommandFailed

Kind = Literal["user", "follow", "tweet"]
KINDS: Final[tuple[Kind, ...]] = ("user", "follow", "tweet")

CSV_COLUMNS: Final = "username[,email[,password]] | follower,followee | username,content | user_id,content"


class UserRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account to create; without an address it gets one that is nobody's."""

    username: str
    email: str | None = None
    password: str | None = None


class FollowRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``follower`` shall follow ``followee``; both are usernames."""

    follower: str
    followee: str


class TweetRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tweet of the account with this username or this id."""

    content: str
    username: str | None = None
    user_id: int | None = None


class BadRow(NamedTuple):
    """A line that is no row, and why."""

    reason: str


Row = UserRow | FollowRow | TweetRow | BadRow

_TYPES: Final[Mapping[Kind, type[UserRow | FollowRow | TweetRow]]] = {
    "user": UserRow,
    "follow": FollowRow,
    "tweet": TweetRow,
}
_EDGE: Final = re.compile(r"^([A-Za-z0-9_]+) +([A-Za-z0-9_]+)$")


class SourceRow(NamedTuple):
    """A row and where it came from; ``line`` counts from 1."""

    number: int
    file: str
    line: int
    row: Row

    @property
    def kind(self) -> Kind | None:
        """What the row asks for; None for a bad one."""
        return next((kind for kind, row_type in _TYPES.items() if isinstance(self.row, row_type)), None)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files of one import. Tweets of ``tweets_txt`` are dealt in turn to the people of the other files."""

    files: tuple[Path, ...] = ()
    edges: tuple[Path, ...] = ()
    tweets_txt: tuple[Path, ...] = ()

    def fingerprint(self) -> str:
        """A digest of the contents: the same inputs have the same, whatever they are called."""
        digest = hashlib.sha256()
        for role in ("files", "edges", "tweets_txt"):
            for path in getattr(self, role):
                with path.open("rb") as file:
                    digest.update(f"{role}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()


def read_rows(inputs: Inputs) -> Iterator[SourceRow]:
    """All rows, in the order of files, edges, tweets. Raises CommandFailed for a file that is none of these."""
    numbers = count()
    dealt = _dealt_tweets(inputs) if inputs.tweets_txt else iter(())
    for path, line, row in chain(_people_rows(inputs), dealt):
        yield SourceRow(next(numbers), str(path), line, row)


_Lines = Iterator[tuple[Path, int, Row]]


def _people_rows(inputs: Inputs) -> _Lines:
    for path in inputs.files:
        yield from _file_rows(path)
    known: set[str] = set()
    for path in inputs.edges:
        yield from _edge_rows(path, known)


def _file_rows(path: Path) -> _Lines:
    match path.suffix.lower():
        case ".csv":
            return _csv_rows(path)
        case ".ndjson" | ".jsonl":
            return _ndjson_rows(path)
        case _:
            raise CommandFailed(
                f"{path}: a .csv, .ndjson or .jsonl file is needed here; "
                "an edge list goes to --edges, a tweet a line to --tweets-txt",
                USAGE,
            )


def _csv_rows(path: Path) -> _Lines:
    with _text(path, newline="") as file:
        reader = csv.DictReader(file, strict=True)
        kind = _kind_of(reader.fieldnames or ())
        if kind is None:  # not repeated: without a header it is a row, with an address and a password in it
            raise CommandFailed(f"{path}: the first line must name the columns: {CSV_COLUMNS}", USAGE)
        try:
            for fields in reader:
                yield path, reader.line_num, _csv_row(kind, fields)
        except csv.Error as error:
            raise CommandFailed(f"{path}:{reader.line_num}: {error}: mend the file", USAGE) from error


def _csv_row(kind: Kind, fields: Mapping[str | Any, Any]) -> Row:
    if None in fields or None in fields.values():
        return BadRow("the number of cells is not that of the columns")
    return _convert(kind, {name: value for name, value in fields.items() if value != ""})


def _ndjson_rows(path: Path) -> _Lines:
    for line, text in _text_lines(path):
        if text.strip():
            yield path, line, _ndjson_row(text)


def _ndjson_row(text: str) -> Row:
    try:
        fields = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        return BadRow(f"no JSON: {error}")
    if not isinstance(fields, dict):
        return BadRow("not a JSON object")
    kind = fields.pop("type") if "type" in fields else _kind_of(fields)
    if kind not in KINDS:
        return BadRow(f'"type" must be one of {", ".join(KINDS)}, or the fields must tell')
    return _convert(kind, fields)


def _convert(kind: Kind, fields: Mapping[str, Any]) -> Row:
    try:
        row = msgspec.convert(fields, _TYPES[kind], strict=False)
    except msgspec.ValidationError as error:
        return BadRow(str(error))
    if isinstance(row, TweetRow) and (row.username is None) == (row.user_id is None):
        return BadRow("a tweet needs either a username or a user_id")
    return row


def _kind_of(names: Any) -> Kind | None:
    """Which rows have columns of these names."""
    if "content" in names:
        return "tweet"
    if "follower" in names and "followee" in names:
        return "follow"
    return "user" if "username" in names else None


def _edge_rows(path: Path, known: set[str]) -> _Lines:
    """Each line ``a b`` is a friendship: both people, when first seen, and a follow each way."""
    for line, text in _text_lines(path):
        if not text.strip() or text[0] in "%#":
            continue
        edge = _EDGE.match(text)
        if edge is None:
            yield path, line, BadRow("not `a b`, two names separated by a space")
            continue
        pair = [f"person_{node}" for node in edge.groups()]
        for username in pair:
            if username not in known:
                known.add(username)
                yield path, line, UserRow(username)
        yield path, line, FollowRow(pair[0], pair[1])
        yield path, line, FollowRow(pair[1], pair[0])


def _dealt_tweets(inputs: Inputs) -> _Lines:
    people = [row.username for _, _, row in _people_rows(inputs) if isinstance(row, UserRow)]
    if not people:
        raise CommandFailed("--tweets-txt needs people to deal the tweets to: add --edges or a file of users", USAGE)
    turn = count()
    for path in inputs.tweets_txt:
        for line, text in _text_lines(path):
            if text.strip():
                yield path, line, TweetRow(text, username=people[next(turn) % len(people)])


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines from 1. Only a line feed ends one: a tweet may hold the other characters that Python takes for ends."""
    with _text(path, newline="\n") as file:
        for line, text in enumerate(file, start=1):
            yield line, text.rstrip("\r\n")


@contextmanager
def _text(path: Path, newline: str) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield file
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path}: not UTF-8 ({error.reason}): convert the file first", USAGE) from error
