"""The journal of an import: what it remembers over a crash, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.errors import CommandFailed
from services.cli.importing.journal import Journal, Refusal

REFUSAL = Refusal("tweets.csv", 3, 422, "validation_error", [{"msg": "must not be blank"}], {"content": " "})


def test_what_was_recorded_is_there_again(tmp_path: Path) -> None:
    """Users with their ids, tweets with theirs, refusals whole, and the tweets nobody heard of again."""
    with Journal(tmp_path / "import" / "j", "print") as journal:
        journal.record_user(0, "Ada", 11)
        journal.record_sent([1, 2, 3], 50)
        journal.record_done(1, 60)
        journal.record_refused(2, REFUSAL)
        journal.record_done(4)
    with Journal(tmp_path / "import" / "j", "print") as again:
        assert again.settled == {0, 1, 2, 4}
        assert again.unsettled() == {3: 50}
        assert again.user_ids == {"ada": 11}
        assert again.tweet_ids == {1: 60}
        assert again.refusals == {2: REFUSAL}


def test_a_line_torn_by_a_crash_is_cut_off(tmp_path: Path) -> None:
    """What was being written did not happen, and the next line does not run into it."""
    path = tmp_path / "j"
    with Journal(path, "print") as journal:
        journal.record_done(1, 60)
    with path.open("ab") as file:
        file.write(b'["done", 2, 6')
    with Journal(path, "print") as journal:
        assert journal.settled == {1}
        journal.record_done(3, 70)
    with Journal(path, "print") as journal:
        assert journal.settled == {1, 3}


def test_every_prefix_of_a_journal_is_a_journal(tmp_path: Path) -> None:
    """A crash may cut it anywhere, the first line included."""
    path = tmp_path / "j"
    with Journal(path, "print") as journal:
        journal.record_sent([1, 2], 50)
        journal.record_done(1, 60)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with Journal(path, "print") as journal:
            assert journal.settled == set()
            assert set(journal.unsettled()) in (set(), {1, 2})


def test_a_journal_of_other_files_is_refused(tmp_path: Path) -> None:
    """Its row numbers mean other rows."""
    with Journal(tmp_path / "j", "print"):
        pass
    with pytest.raises(CommandFailed, match="belongs to other files"):
        Journal(tmp_path / "j", "another")


@pytest.mark.parametrize("line", [b"nonsense\n", b'["eaten", 1]\n'])
def test_a_damaged_journal_is_refused(tmp_path: Path, line: bytes) -> None:
    """Going on with half of it would send tweets twice."""
    path = tmp_path / "j"
    with Journal(path, "print"):
        pass
    with path.open("ab") as file:
        file.write(line)
    with pytest.raises(CommandFailed, match="move it away"):
        Journal(path, "print")


def test_two_imports_cannot_share_a_journal(tmp_path: Path) -> None:
    """The second one is told to wait."""
    with Journal(tmp_path / "j", "print"), pytest.raises(CommandFailed, match="wait for it"):
        Journal(tmp_path / "j", "print")
