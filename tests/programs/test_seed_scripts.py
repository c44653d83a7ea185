"""script/init_db.py and script/test_services.sh against services that run."""

from __future__ import annotations

from pathlib import Path

from services.cli.seed import TWEETS
from tests.support.commands import environment_of, run_script
from tests.support.system import System

PEOPLE, WORDS = 3, 5


def test_init_db_writes_three_users_and_five_tweets_once(system: System, tmp_path: Path) -> None:
    """A second run adds nothing, and a tweet that is missing is added; what is there keeps its id."""
    first = run_script("init_db.py", tmp_path, environment_of(system))
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"{PEOPLE} users and {WORDS} tweets are there, {PEOPLE + WORDS} of them new\n")
    alice = system.read.get("/users/by-username/alice").json()["id"]
    newest = system.read.get(f"/users/{alice}/tweets").json()[0]
    deleted = system.write.request("DELETE", f"/tweets/{newest['id']}", json={"user_id": alice})
    system.wait_until_applied(int(deleted.headers["X-Log-Position"]))
    second = run_script("init_db.py", tmp_path, environment_of(system))
    assert second.stdout.startswith(f"{PEOPLE} users and {WORDS} tweets are there, 1 of them new\n")
    assert second.stdout.splitlines()[1:5] == first.stdout.splitlines()[1:5]
    contents = [tweet["content"] for tweet in system.read.get(f"/users/{alice}/tweets").json()]
    assert contents == list(reversed(TWEETS["alice"]))
    assert not list(tmp_path.iterdir())


def test_the_tour_passes_on_running_services(system: System, tmp_path: Path) -> None:
    """Without tokens, as this system has no keys."""
    urls = {"READ_URL": system.readers[0].url, "WRITE_URL": system.writers[0].url}
    tour = run_script("test_services.sh", tmp_path, urls)
    assert tour.returncode == 0, tour.stdout + tour.stderr
    assert "FAIL" not in tour.stdout
    assert tour.stdout.splitlines()[-1] == "18 passed, 0 failed"


def test_a_tour_that_finds_something_wrong_fails(system: System, tmp_path: Path) -> None:
    """The read service asked to write: lines that say FAIL, and an exit code."""
    urls = {"READ_URL": system.readers[0].url, "WRITE_URL": system.readers[0].url}
    tour = run_script("test_services.sh", tmp_path, urls)
    assert tour.returncode == 1
    assert tour.stdout.count("FAIL  ") >= 10


def test_services_that_are_named_and_do_not_answer_are_not_replaced(tmp_path: Path) -> None:
    """Neither script starts a system of its own then."""
    nowhere = "http://127.0.0.1:1"
    tour = run_script("test_services.sh", tmp_path, {"READ_URL": nowhere, "WRITE_URL": nowhere})
    assert (tour.returncode, tour.stdout) == (3, "")
    assert "set READ_URL and WRITE_URL" in tour.stderr
    seeding = run_script("init_db.py", tmp_path, {"READ_SERVICE_URL": nowhere, "WRITE_SERVICE_URL": nowhere})
    assert (seeding.returncode, seeding.stdout) == (3, "")
    assert "does not answer" in seeding.stderr
    assert not list(tmp_path.iterdir())
