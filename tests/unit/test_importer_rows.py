"""What the rows of an import are, from every kind of file."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.errors import CommandFailed
from services.cli.importing.rows import BadRow, FollowRow, Inputs, Row, TweetRow, UserRow, read_rows


def _file(directory: Path, name: str, content: str) -> Path:
    path = directory / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


def _rows(inputs: Inputs) -> list[Row]:
    return [source.row for source in read_rows(inputs)]


def test_csv_columns_say_what_the_rows_are(tmp_path: Path) -> None:
    """Quoted cells may hold commas and line ends; an empty cell is no value; the order of columns is free."""
    users = _file(tmp_path, "a.csv", "email,username,password\na@example.com,ada,\nb@example.com,bob,secret123\n")
    follows = _file(tmp_path, "b.csv", "follower,followee\nada,bob\n")
    tweets = _file(tmp_path, "c.csv", 'username,content\r\nada,"one, two\nthree"\r\n')
    by_id = _file(tmp_path, "d.csv", "user_id,content\n42,hello\n")
    assert _rows(Inputs((users, follows, tweets, by_id))) == [
        UserRow("ada", "a@example.com"),
        UserRow("bob", "b@example.com", "secret123"),
        FollowRow("ada", "bob"),
        TweetRow("one, two\nthree", username="ada"),
        TweetRow("hello", user_id=42),
    ]


def test_ndjson_rows_name_their_type_or_have_the_fields_of_one(tmp_path: Path) -> None:
    """One file may hold all kinds; blank lines are no rows."""
    path = _file(
        tmp_path,
        "all.ndjson",
        '{"type": "user", "username": "ada", "email": "a@example.com"}\n\n'
        '{"follower": "ada", "followee": "bob"}\n'
        '{"type": "tweet", "content": "\u2028 is no end of a line", "user_id": 7}\n',
    )
    assert _rows(Inputs((path,))) == [
        UserRow("ada", "a@example.com"),
        FollowRow("ada", "bob"),
        TweetRow("\u2028 is no end of a line", user_id=7),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "no JSON"),
        ("[1]", "not a JSON object"),
        ('{"type": "cow"}', '"type" must be one of user, follow, tweet'),
        ('{"type": ["user"]}', '"type" must be one of user, follow, tweet'),
        ('{"a": 1}', '"type" must be one of user, follow, tweet'),
        ('{"username": "ada", "email": 1}', "Expected `str | null`"),
        ('{"username": "ada", "email": "a@b.c", "admin": true}', "unknown field `admin`"),
        ('{"content": "x"}', "either a username or a user_id"),
        ('{"content": "x", "username": "ada", "user_id": 1}', "either a username or a user_id"),
    ],
)
def test_a_bad_line_is_a_row_with_a_reason(tmp_path: Path, line: str, reason: str) -> None:
    """It is refused like any other row, and the lines after it are read."""
    path = _file(tmp_path, "bad.ndjson", line + '\n{"follower": "ada", "followee": "bob"}\n')
    bad, good = _rows(Inputs((path,)))
    assert isinstance(bad, BadRow)
    assert reason in bad.reason
    assert good == FollowRow("ada", "bob")


@pytest.mark.parametrize("row", ["ada", "ada,a@example.com,secret123,more"])
def test_a_csv_row_with_another_number_of_cells_is_bad(tmp_path: Path, row: str) -> None:
    """A cell too many or too few must not become somebody's password."""
    path = _file(tmp_path, "users.csv", f"username,email,password\n{row}\n")
    assert _rows(Inputs((path,))) == [BadRow("the number of cells is not that of the columns")]


def test_an_edge_makes_both_people_once_and_follows_both_ways(tmp_path: Path) -> None:
    """An undirected friendship; comments are passed over."""
    path = _file(tmp_path, "graph.edges", "% sym\n1 0\n0 2\n1 0 0.5\n")
    people = [UserRow(f"person_{node}") for node in "102"]
    assert _rows(Inputs(edges=(path,))) == [
        people[0],
        people[1],
        FollowRow("person_1", "person_0"),
        FollowRow("person_0", "person_1"),
        people[2],
        FollowRow("person_0", "person_2"),
        FollowRow("person_2", "person_0"),
        BadRow("not `a b`, two names separated by a space"),
    ]


def test_tweets_of_a_text_file_are_dealt_in_turn(tmp_path: Path) -> None:
    """To the people of the other files, in their order, the same way each time."""
    people = _file(tmp_path, "people.csv", "username,email\nada,a@example.com\nbob,b@example.com\n")
    tweets = _file(tmp_path, "tweets.txt", "first\n\nsecond\r\nthird\u0085still third")
    rows = _rows(Inputs((people,), tweets_txt=(tweets,)))
    assert rows[2:] == [
        TweetRow("first", username="ada"),
        TweetRow("second", username="bob"),
        TweetRow("third\u0085still third", username="ada"),
    ]


def test_a_row_knows_its_number_file_and_line(tmp_path: Path) -> None:
    """Numbers run through all files; lines count from 1 with the header."""
    first = _file(tmp_path, "a.csv", "follower,followee\nada,bob\n")
    second = _file(tmp_path, "b.csv", "follower,followee\nbob,ada\n")
    rows = list(read_rows(Inputs((first, second))))
    assert [(row.number, row.file, row.line) for row in rows] == [(0, str(first), 2), (1, str(second), 2)]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("users.csv", b"name,mail\n", "must name the columns"),
        ("users.csv", b"", "must name the columns"),
        ("users.xlsx", b"", "a .csv, .ndjson or .jsonl file is needed"),
        ("users.csv", b"username,email\n\xff,b\n", "not UTF-8"),
        ("users.csv", b'username,email\n"a,b\n', "unexpected end of data"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_line_that_names_it(
    tmp_path: Path, name: str, content: bytes, complaint: str
) -> None:
    """Nothing of such a file is imported; the message says which and what to do."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CommandFailed, match=complaint) as failure:
        list(read_rows(Inputs((path,))))
    assert str(path) in str(failure.value)


def test_tweets_without_people_are_refused(tmp_path: Path) -> None:
    """There is nobody to deal them to."""
    with pytest.raises(CommandFailed, match="needs people"):
        list(read_rows(Inputs(tweets_txt=(_file(tmp_path, "t.txt", "hello\n"),))))


def test_the_fingerprint_tells_contents_and_roles_apart(tmp_path: Path) -> None:
    """The same contents under another name are the same import; as another kind of input they are not."""
    one, same = _file(tmp_path, "one.csv", "x"), _file(tmp_path, "same.csv", "x")
    other = _file(tmp_path, "other.csv", "y")
    assert Inputs((one,)).fingerprint() == Inputs((same,)).fingerprint()
    prints = {Inputs((one,)).fingerprint(), Inputs((other,)).fingerprint(), Inputs(edges=(one,)).fingerprint()}
    assert len(prints) == 3
