"""A real PostgreSQL of the tests' own, on a free port of this machine, and databases in it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Final

import psycopg

from tests.support.ports import HOST, free_port
from tests.support.process import Program
from tests.support.wait import eventually

DEBIAN_BINARIES: Final = Path("/usr/lib/postgresql")
UNPRIVILEGED: Final = "postgres"  # the server refuses to run as root
# The tests kill processes, never the machine: what the kernel was handed is safe, and ten times as fast.
SETTINGS: Final = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "200"}


def find_binaries() -> Path | None:
    """The directory of the newest server here, None if there is none: only its client may be on the PATH."""
    if (postgres := shutil.which("postgres")) is not None:
        return Path(postgres).resolve().parent
    found = sorted(DEBIAN_BINARIES.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


class PostgresqlServer(Program):
    """Its data goes when it is closed. Everybody on this machine is its superuser."""

    def __init__(self, binaries: Path) -> None:
        self.port = free_port()
        self._binaries = binaries
        # Not in the test's own directory, which no other user may enter.
        self._home = Path(tempfile.mkdtemp(prefix="twitter-postgresql-"))
        self._numbers = count(1)
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        place = [f"--port={self.port}", f"--listen_addresses={HOST}", f"--unix_socket_directories={self._home}"]
        command = [str(binaries / "postgres"), "-D", str(self._home / "data"), *place, *settings]
        super().__init__("postgresql", _unprivileged(command), self._home, {})

    def start(self) -> None:
        """Start it, over new data at the first time, and wait until it answers."""
        if not (self._home / "data").exists():
            self._make_data()
        super().start()
        eventually(self._answers, describe=lambda: f"postgresql at port {self.port}:\n{self.log_tail}")

    def stop(self) -> None:
        """End it at once, as in a crash: at the next start it goes through its own log."""
        self._signal(signal.SIGQUIT)
        self.wait()

    def pause(self) -> None:
        """Stall it with all its sessions, which are processes of their own."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url(name, "postgresql+psycopg")

    def close(self) -> None:
        """Be rid of it and of its data."""
        if self.is_running:
            self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _signal_all(self, number: signal.Signals) -> None:
        children = subprocess.run(["pgrep", "-P", str(self.pid)], check=True, capture_output=True, text=True).stdout
        for pid in (self.pid, *map(int, children.split())):
            os.kill(pid, number)

    def _make_data(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._home, UNPRIVILEGED)
        command = [str(self._binaries / "initdb"), "-D", str(self._home / "data"), "-U", UNPRIVILEGED]
        options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(_unprivileged([*command, *options]), check=True, capture_output=True, cwd=self._home)

    def _url(self, database: str, scheme: str = "postgresql") -> str:
        return f"{scheme}://{UNPRIVILEGED}@{HOST}:{self.port}/{database}"

    def _answers(self) -> bool:
        assert self.is_running, f"postgresql ended:\n{self.log_tail}"
        try:
            psycopg.connect(self._url("postgres")).close()
        except psycopg.OperationalError:  # not listening yet, or starting up
            return False
        return True


def _unprivileged(command: Sequence[str]) -> list[str]:
    """The command, run by a user who is not root."""
    if os.geteuid() != 0:
        return list(command)
    user = pwd.getpwnam(UNPRIVILEGED)
    change = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*change, "--", *command]
