"""One running system for all contract tests: they ask, they do not kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.system import System


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A reader, a writer and the owner, with a user and a tweet in it."""
    with System(tmp_path_factory.mktemp("contract")) as system:
        author = system.create_user("author").json()["id"]
        created = system.create_tweet(author, "a tweet to talk about")
        system.wait_until_applied(int(created.headers["X-Log-Position"]))
        yield system
