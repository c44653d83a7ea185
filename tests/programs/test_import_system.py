"""``twitter import`` against the real system, killed in the middle.

IMPORT_TWEETS is how many tweets, 3,000 unless it is set. With as many as the README's largest claim:

    IMPORT_TWEETS=100000 make test-programs ARGS="-n 0 -s -k import_killed"
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import func, select
from sqlmodel import col

from services.common.database import open_reader
from services.common.ids import BEGINNING
from services.common.log.client import EventLog
from services.common.log.entry import Entry
from services.common.models import Follow, Tweet, User
from tests.support.process import REPOSITORY, Program
from tests.support.system import System
from tests.support.wait import eventually

PEOPLE: Final = 30
TWEETS: Final = int(os.environ.get("IMPORT_TWEETS", "3000"))
SECONDS_MAX: Final = 60 + TWEETS / 50

pytestmark = pytest.mark.timeout(4 * SECONDS_MAX)


def _write_inputs(directory: Path) -> list[str]:
    edges, tweets = directory / "ring.edges", directory / "tweets.txt"
    edges.write_text("".join(f"{person} {(person + 1) % PEOPLE}\n" for person in range(PEOPLE)))
    # Each text twice, so that a tweet in doubt cannot be settled by its text alone.
    tweets.write_text("".join(f"tweet {number % (TWEETS // 2)}\n" for number in range(TWEETS)))
    return ["--edges", str(edges), "--tweets-txt", str(tweets)]


def _twitter_import(system: System, directory: Path, *arguments: str) -> Program:
    return Program(
        "import",
        [sys.executable, "-m", "services.cli", "import", *arguments, "--data", str(directory)],
        directory,
        {
            "PYTHONPATH": str(REPOSITORY),
            "READ_SERVICE_URL": system.readers[0].url,
            "WRITE_SERVICE_URL": system.writers[0].url,
        },
    )


def test_an_import_killed_in_the_middle_applies_every_row_once(fresh_system: System, tmp_path: Path) -> None:
    """kill -9, then Ctrl-C while tweets are on their way, then to the end: each row is there once, none is refused."""
    program = _twitter_import(fresh_system, tmp_path, *_write_inputs(tmp_path))
    with closing(EventLog(fresh_system.redis.url)) as log:
        _start_and_wait(program, log, entries=TWEETS // 4)
        program.kill()
        _start_and_wait(program, log, entries=TWEETS // 2)
        os.kill(program.pid, signal.SIGINT)
        assert program.wait() == 130
        assert program.log.splitlines()[-1] == "twitter: interrupted: the same command goes on where this one stopped"
        program.start()
        assert program.wait(SECONDS_MAX) == 0, program.log_tail
        fresh_system.wait_until_applied(log.head(), SECONDS_MAX)
        names = Counter(entry.name for entry in _entries(log))
    assert names["tweet_created"] == TWEETS
    assert names["user_created"] == PEOPLE
    engine = open_reader(fresh_system.database)
    with engine.begin() as connection:
        contents = Counter(connection.execute(select(col(Tweet.content))).scalars())
        assert set(contents.values()) == {2}
        assert connection.execute(select(func.count()).select_from(User)).scalar_one() == PEOPLE
        assert connection.execute(select(func.count()).select_from(Follow)).scalar_one() == 2 * PEOPLE
    engine.dispose()


def _start_and_wait(program: Program, log: EventLog, *, entries: int) -> None:
    """Start an import, and wait until the log has this many entries."""
    program.start()
    eventually(lambda: log.status().length >= entries, SECONDS_MAX, lambda: program.log_tail)
    assert program.is_running


def _entries(log: EventLog) -> Iterator[Entry]:
    position = BEGINNING
    while entries := log.read(position):
        yield from entries
        position = entries[-1].position


def test_refusals_are_reported_and_the_exit_code_tells(system: System, tmp_path: Path) -> None:
    """Counts by code, a file with each refusal and its reason, exit code 1; the good rows are there."""
    rows = tmp_path / "rows.ndjson"
    rows.write_text(
        '{"username": "import_ok", "email": "import_ok@example.com"}\n'
        '{"username": "no spaces", "email": "spaces@example.com"}\n'
        '{"username": "import_ok", "content": "fine"}\n'
        '{"username": "import_ok", "content": "   "}\n'
    )
    program = _twitter_import(system, tmp_path, str(rows), "--json")
    program.start()
    assert program.wait(60) == 1
    report = json.loads(program.log[program.log.index("{\n") :])
    assert report["applied"] == {"user": 1, "tweet": 1}
    assert report["refused_by_code"] == {"validation_error": 2}
    refusals = [json.loads(line) for line in Path(report["refusals_file"]).read_text().splitlines()]
    assert [(refusal["line"], refusal["status"]) for refusal in refusals] == [(2, 422), (4, 422)]
