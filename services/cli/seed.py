"""Three people and five tweets, to begin with; through the API, so that they are in the log like all others."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import httpx
import msgspec

from services.cli.console import say
from services.cli.dev.background import background_system
from services.cli.errors import UNAVAILABLE, CommandFailed
from services.cli.importing.api import Api
from services.cli.settings import System, find_system, read_settings, system_of
from services.cli.tokens import tokens_if_there_are_keys

ASK_SECONDS: Final = 2.0

TWEETS: Final[Mapping[str, tuple[str, ...]]] = {
    "alice": ("Hello, world! This is the first tweet here.", "A log remembers what a table forgets."),
    "bob": ("Just joined. What did I miss?", "Coffee first, then code."),
    "charlie": ("Reading my own writes, as I should.",),
}
"""What each of the first users writes, oldest first."""


class Seeded(msgspec.Struct, frozen=True):
    """Who and what there is now, by name and by text; ``created`` says how much of it is new."""

    users: dict[str, int]
    tweets: dict[str, int]
    created: int


def seed(data_dir: Path) -> Seeded:
    """Make sure of the first users and tweets, in the system that runs, else in one that runs for as long as needed.

    What is there already is left as it is. Raises CommandFailed, OutcomeUnknown.
    """
    with _system(data_dir) as system:
        tokens = tokens_if_there_are_keys(system.auth_keys_file)
        with closing(Api(system.write_url, system.read_url, tokens)) as api:
            return _seed(api)


def _seed(api: Api) -> Seeded:
    users: dict[str, int] = {}
    tweets: dict[str, int] = {}
    created = 0
    for username, contents in TWEETS.items():
        answer = api.write_repeatably("/users", {"username": username, "email": f"{username}@example.com"})
        created += answer.status == httpx.codes.CREATED
        known_id = answer.body["id"] if answer.status == httpx.codes.CREATED else api.user_id(username)
        if known_id is None:
            raise CommandFailed(f"{username} cannot be created: {answer.status} {answer.code}: {answer.detail}")
        users[username] = known_id
        there = {content: tweet_id for tweet_id, content in api.tweets_after(known_id, 0)}
        for content in contents:
            if content not in there:
                there[content] = _tweet(api, known_id, content)
                created += 1
            tweets[content] = there[content]
    return Seeded(users, tweets, created)


def _tweet(api: Api, user_id: int, content: str) -> int:
    answer = api.write("/tweets", {"content": content, "user_id": user_id})
    if answer.status != httpx.codes.CREATED:
        raise CommandFailed(f"a tweet was refused: {answer.status} {answer.code}: {answer.detail}")
    tweet_id: int = answer.body["id"]
    return tweet_id


@contextmanager
def _system(data_dir: Path) -> Iterator[System]:
    """The system that answers; one in the background if there is none, on the data that there is."""
    settings = read_settings()
    system = find_system(data_dir, settings)
    silent = [url for url in (system.write_url, system.read_url) if not _answers(url)]
    if not silent:
        yield system
        return
    if len(silent) == 1 or settings.write_service_url or settings.read_service_url:
        raise CommandFailed(
            f"{' and '.join(silent)} does not answer: start it, or set READ_SERVICE_URL and WRITE_SERVICE_URL to "
            "where both services are",
            UNAVAILABLE,
        )
    say("nothing is running: starting the system for a moment ...")
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="twitter-seed-") as directory:
        log_path = Path(directory) / "dev.log"
        with background_system(data_dir, log_path, os.environ) as state:
            yield system_of(state)


def _answers(url: str) -> bool:
    try:
        httpx.get(f"{url}/", timeout=ASK_SECONDS, trust_env=False)
    except httpx.TransportError:
        return False
    return True
