"""--json: every command has it, and prints nothing but JSON on stdout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
import typer

from services.cli.importing.rows import BadRow, Inputs, read_rows
from services.cli.main import app
from tests.support.commands import twitter, twitter_json
from tests.support.system import System

TRIED_ELSEWHERE: Final = {"dev", "demo", "backup", "restore", "snapshot"} | {
    f"dead-letters {word}" for word in ("show", "replay", "drop")
}
"""What starts a system, changes files or needs a damaged log has tests of its own, in which --json is tried."""


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its words."""
    if not hasattr(command, "commands"):
        yield name.strip(), command
        return
    for word, each in command.commands.items():
        yield from commands(each, f"{name} {word}")


ALL: Final = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ALL)
def test_every_command_takes_json(name: str) -> None:
    """And says what it does."""
    command = ALL[name]
    assert "--json" in {option for parameter in command.params for option in parameter.opts}
    assert command.help
    assert all(parameter.help for parameter in command.params if parameter.name != "help")


def test_with_json_stdout_is_json_and_nothing_else(system: System, tmp_path: Path) -> None:
    """Each command that looks at a system or changes an account, one after another; one document each."""
    name = f"json_{uuid4().hex[:8]}"
    rows = tmp_path / "rows.csv"
    rows.write_text(f"username\n{name}_imported\n")
    arguments = {
        "user create": [name, f"{name}@example.org"],
        "user show": [name],
        "user suspend": [name],
        "user reinstate": [name],
        "token keys new": [],
        "token keys list": [],
        "token issue": [name],
        "token keys retire": ["--force", "KID"],
        "user delete": [name, "--yes"],
        "import": [str(rows), "--data", str(tmp_path)],
        "export": [str(tmp_path / "exported")],
        "log": [],
        "dead-letters list": [],
        "doctor": ["--data", str(tmp_path)],
        "verify": [],
        "rebuild": ["--output", str(tmp_path / "rebuilt.db")],
    }
    assert set(ALL) == set(arguments) | TRIED_ELSEWHERE
    printed: dict[str, Any] = {}
    environment = {"AUTH_KEYS_FILE": str(tmp_path / "keys" / "auth_keys.json")}
    for words, rest in arguments.items():
        if words == "token keys retire":
            rest[1] = twitter_json(system, "token", "keys", "new", environment=environment)["kid"]
        printed[words] = twitter_json(system, *words.split(), *rest, environment=environment)
    assert printed["user show"]["username"] == name
    assert printed["import"]["applied"] == {"user": 1}
    assert printed["export"]["rows"]["users"] >= 1


def test_an_export_has_what_everybody_may_see(system: System, tmp_path: Path) -> None:
    """In both formats, as rows that an import takes: no address, no deleted tweet, texts as they were."""
    ada, bob = (f"exported_{who}_{uuid4().hex[:6]}" for who in ("ada", "bob"))
    ids = [system.create_user(name, f"{name}@private.example.org").json()["id"] for name in (ada, bob)]
    content = 'two lines,\nand "quotes" \U0001f426'
    deleted = system.create_tweet(ids[0], f"{ada} says nothing").json()["id"]
    system.create_tweet(ids[0], content)
    system.write.post(f"/users/{ids[1]}/follow", json={"user_id": ids[0]})
    last = system.write.request("DELETE", f"/tweets/{deleted}", json={"user_id": ids[0]})
    system.wait_until_applied(int(last.headers["X-Log-Position"]))
    for file_format in ("ndjson", "csv"):
        directory = tmp_path / file_format
        exported = twitter_json(system, "export", str(directory), "--format", file_format)
        text = "".join(Path(path).read_text() for path in exported["files"])
        assert "private.example.org" not in text
        assert "says nothing" not in text
        rows = [source.row for source in read_rows(Inputs(tuple(map(Path, exported["files"]))))]
        assert not [row for row in rows if isinstance(row, BadRow)]
        assert len(rows) == sum(exported["rows"].values())
        mine = [row for row in rows if ada in repr(row)]
        assert [type(row).__name__ for row in mine] == ["UserRow", "FollowRow", "TweetRow"]
        assert getattr(mine[2], "content", None) == content
        assert not list(directory.glob("*.unfinished"))
        again = twitter(system, "export", str(directory), "--format", file_format)
        assert (again.exit_code, "exists" in again.stderr) == (2, True)
