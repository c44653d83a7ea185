"""``twitter log``, ``verify`` and ``rebuild`` on a real system."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from sqlmodel import col
from typer.testing import CliRunner, Result

from services.cli.main import app
from services.common.database import open_writer
from services.common.models import Tweet, User
from tests.support.databases import database_url
from tests.support.process import REPOSITORY, Program
from tests.support.system import System
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(120)


def _environment(system: System) -> dict[str, str]:
    return {
        "REDIS_URL": system.redis.url,
        "READ_SERVICE_URL": system.readers[0].url,
        "WRITE_SERVICE_URL": system.writers[0].url,
        "OWNER_URL": system.owner.url,
        "DATABASE_URL": database_url(system.owner_directory),
        "ARCHIVE_DIR": str(system.owner_directory / "archive"),
    }


def _twitter(system: System, *arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env=_environment(system))


def _json(system: System, *arguments: str) -> Any:
    result = _twitter(system, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_log_tells_where_everybody_is(system: System) -> None:
    """The head is the last write's position; owner and reader have applied all; the archive too."""
    created = system.create_user("log_reader")
    position = int(created.headers["X-Log-Position"])
    system.wait_until_applied(position)
    report = _json(system, "log")
    assert report["log"]["head"] == position
    assert report["log"]["epoch"] == 1
    assert report["log"]["length"] >= 2
    for follower in ("owner", "reader"):
        assert report[follower]["applied_position"] == position
        assert (report[follower]["lag_entries"], report[follower]["lag_seconds"]) == (0, 0.0)
    shown = _twitter(system, "log").output
    assert str(position) in shown
    assert "has all" in shown


def test_log_tells_how_far_behind_the_owner_is(fresh_system: System) -> None:
    """A stopped owner does not answer; one that is stalled is behind by what was written meanwhile."""
    fresh_system.create_user("ada")
    fresh_system.owner.kill()
    report = _json(fresh_system, "log")
    assert report["owner"] is None
    assert "does not answer" in _twitter(fresh_system, "log").output
    fresh_system.redis.kill()
    unreachable = _twitter(fresh_system, "log")
    assert unreachable.exit_code == 3
    assert len(unreachable.stderr.splitlines()) == 1


def test_log_follow_prints_entries_as_they_come(system: System, tmp_path: Path) -> None:
    """One JSON object a line, from the position asked for; Ctrl-C is a good end."""
    after = system.create_user("before_following").headers["X-Log-Position"]
    follow = Program(
        "follow",
        [sys.executable, "-m", "services.cli", "log", "--follow", "--json", "--after", after],
        tmp_path,
        {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1", **_environment(system)},
    )
    follow.start()
    try:
        user_id = system.create_user("followed_live").json()["id"]
        tweet = system.create_tweet(user_id, "live")
        eventually(lambda: len(follow.log.splitlines()) >= 2, 30, lambda: follow.log_tail)
        os.kill(follow.pid, signal.SIGINT)
        assert follow.wait() == 0
    finally:
        follow.close()
    first, second = map(json.loads, follow.log.splitlines())
    assert (first["position"], first["name"]) == (user_id, "user_created")
    assert (second["position"], second["prev"]) == (tweet.json()["id"], user_id)
    assert json.loads(second["payload"])["content"] == "live"


def test_verify_holds_for_the_running_owner(system: System) -> None:
    """A snapshot at the owner's position is what archive and stream say, even if an older one is still on offer."""
    assert system.owner.http.get("/internal/snapshot").status_code == 200
    user_id = system.create_user("verified").json()["id"]
    tweet = system.create_tweet(user_id, "true")
    position = int(tweet.headers["X-Log-Position"])
    system.wait_until_applied(position)
    verification = _json(system, "verify")
    assert verification["position"] >= position
    assert all(table["is_equal"] for table in verification["tables"].values())
    assert verification["tables"]["tweets"]["rows"] >= 1


def test_rebuild_makes_the_same_database_in_a_new_file(system: System, tmp_path: Path) -> None:
    """At the head of the log; a file that exists is not overwritten."""
    position = int(system.create_user("rebuilt").headers["X-Log-Position"])
    output = tmp_path / "new" / "rebuilt.db"
    rebuilt = _json(system, "rebuild", "--output", str(output))
    assert rebuilt["position"] >= position
    assert [path.name for path in output.parent.iterdir()] == ["rebuilt.db"]
    refused = _twitter(system, "rebuild", "--output", str(output))
    assert refused.exit_code == 2
    assert "exists" in refused.stderr


def test_a_damaged_database_is_found_replaced_and_served_again(fresh_system: System) -> None:
    """Rows changed behind the owner's back: verify names them, rebuild --replace mends them, the owner goes on."""
    user_id = fresh_system.create_user("ada", "ada@example.com").json()["id"]
    ghost_id = fresh_system.create_user("ghost").json()["id"]
    tweets = [fresh_system.create_tweet(user_id, f"tweet {number}") for number in range(3)]
    fresh_system.wait_until_applied(int(tweets[-1].headers["X-Log-Position"]))
    in_use = _twitter(fresh_system, "rebuild", "--replace")
    assert in_use.exit_code == 1
    assert "stop the db-updater first" in in_use.stderr

    fresh_system.owner.terminate()
    tweet_ids = [tweet.json()["id"] for tweet in tweets]
    engine = open_writer(fresh_system.database, "full")
    with engine.begin() as connection:
        connection.execute(update(Tweet).where(col(Tweet.id) == tweet_ids[0]).values(likes=7))
        connection.execute(delete(Tweet).where(col(Tweet.id) == tweet_ids[1]))
        connection.execute(update(User).where(col(User.id) == ghost_id).values(id=ghost_id - 1))
    engine.dispose()

    found = _twitter(fresh_system, "verify", "--json")
    assert found.exit_code == 1
    tables = json.loads(found.stdout)["tables"]
    assert tables["tweets"]["differences"] == [
        f"id={tweet_ids[0]}: likes=7 instead of 0",
        f"id={tweet_ids[1]}: only in the rebuilt database",
    ]
    assert tables["users"]["differences"] == [
        f"id={ghost_id - 1}: not in the rebuilt database",
        f"id={ghost_id}: only in the rebuilt database",
    ]
    assert tables["follows"]["is_equal"]

    replaced = _json(fresh_system, "rebuild", "--replace")
    assert Path(replaced["replaced"]).exists()
    fresh_system.owner.start()
    fresh_system.owner.wait_ready()
    later = fresh_system.create_tweet(user_id, "later")
    fresh_system.wait_until_applied(int(later.headers["X-Log-Position"]))
    verification = _json(fresh_system, "verify")
    assert all(table["is_equal"] for table in verification["tables"].values())
    assert verification["tables"]["tweets"]["rows"] == 4


def test_verify_without_owner_or_file_says_what_to_set(tmp_path: Path) -> None:
    """Nothing to compare is an error of its own, not a success."""
    result = CliRunner().invoke(app, ["verify", "--data", str(tmp_path)], env={"OWNER_URL": "http://127.0.0.1:1"})
    assert result.exit_code == 3
    assert "start the db-updater, or set OWNER_URL or DATABASE_URL" in result.stderr
