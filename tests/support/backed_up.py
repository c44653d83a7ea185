"""A system whose owner makes backups, and whose disasters are met by the runbooks of docs/operations.md."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

import httpx
from typer.testing import CliRunner, Result

from services.cli.main import app
from tests.support import runbook
from tests.support.owner import archived, database_path, rebuilt_hashes, table_hashes
from tests.support.process import INHERITED
from tests.support.system import System
from tests.support.wait import eventually

PASSWORD: Final = "correct horse battery"
SIGNING_KEY: Final = {"kty": "oct", "kid": "one", "alg": "HS256", "k": "QUFB" * 16, "signs_from": 0}


class BackedUp(System):
    """A system whose owner makes backups when asked, with accounts that have passwords."""

    def __init__(self, directory: Path) -> None:
        self.backups = directory / "backups"
        keys = directory / "keys.json"
        directory.mkdir()
        keys.write_text(json.dumps({"keys": [SIGNING_KEY]}))
        settings = {"AUTH_KEYS_FILE": str(keys), "BACKUP_DIR": str(self.backups), "BACKUP_INTERVAL_SECONDS": "86400"}
        super().__init__(directory, environment=settings)

    def sign_up(self, name: str) -> dict[str, Any]:
        """A new account with a password; the answer, with tokens."""
        body = {"username": name, "email": f"{name}@example.com", "password": PASSWORD}
        answer = self.write.post("/users", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def may_log_in(self, name: str) -> bool:
        """Whether name and password still belong together."""
        answer = self.write.post("/auth/token", json={"username": name, "password": PASSWORD})
        return answer.status_code == httpx.codes.OK

    def write_some(self, author: int, count: int = 3) -> list[int]:
        """Tweets that everybody has applied."""
        answers = [self.create_tweet(author, f"tweet {number}") for number in range(count)]
        self.wait_until_applied(int(answers[-1].headers["X-Log-Position"]))
        return [int(answer.json()["id"]) for answer in answers]

    def twitter(self, *arguments: str) -> Result:
        """A command on this system."""
        return CliRunner().invoke(app, list(arguments), env=self._told())

    def result_of(self, *arguments: str) -> dict[str, Any]:
        """What a command that succeeds prints as JSON."""
        result = self.twitter(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    def follow_runbook(self, name: str) -> str:
        """Do what docs/operations.md says; returns what its commands have printed."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        told = {"BACKUP_DIR": str(self.backups), "REDIS_DIR": str(self.redis.directory)}
        parts = {"db-updater": self.owner, "redis": self.redis}
        return runbook.follow(name, parts, self.directory, {**inherited, **self._told(), **told})

    def back_up(self) -> Path:
        """A backup of what has been applied."""
        return Path(self.result_of("backup")["path"])

    def lose_volume(self) -> None:
        """The owner is gone with all its files."""
        self.owner.kill()
        shutil.rmtree(self.owner_directory)

    def check_everybody_agrees(self, scratch: Path) -> None:
        """Owner, archive and readers hold the same rows."""
        assert all(table["is_equal"] for table in self.result_of("verify")["tables"].values())
        hashes = table_hashes(database_path(self.owner_directory))
        assert hashes == rebuilt_hashes(archived(self.owner_directory), scratch)
        (replica,) = eventually(self._replicas)
        assert table_hashes(replica) == hashes

    def _told(self) -> dict[str, str]:
        return {
            "REDIS_URL": self.redis.url,
            "OWNER_URL": self.owner.url,
            "DATABASE_URL": str(database_path(self.owner_directory)),
        }

    def _replicas(self) -> list[Path]:
        found = list(self.readers[0].directory.glob("replica/reader-*/replica-*.db"))
        return found if len(found) == 1 else []
