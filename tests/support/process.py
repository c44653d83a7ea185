"""Programs that a test runs: each with its own log, none of them alive after the test run."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import httpx

from services.cli.dev.orphans import Reaper
from tests.support.ports import HOST, free_port
from tests.support.wait import PATIENCE_SECONDS, eventually

REPOSITORY: Final = Path(__file__).parents[2]
LOG_TAIL_LINES: Final = 40
# Nothing else of the caller's environment reaches a program: an exported REDIS_URL must not change a test.
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")

started: list[Program] = []
"""The programs of the current test, for the report of a failure; conftest.py removes those that ended."""


class Program:
    """A child process that can be stopped in every way, and started again. Its output goes to ``log_path``."""

    def __init__(self, name: str, command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.command = list(command)
        self.directory = directory
        self.environment = dict(environment)
        self.log_path = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running program."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended; true of a paused one too."""
        return self._process is not None and self._process.poll() is None

    @property
    def memory_bytes_max(self) -> int:
        """The most memory that it has had since its start (Linux only)."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    @property
    def log(self) -> str:
        """Everything it wrote, over all its starts."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    @property
    def log_tail(self) -> str:
        """The last lines it wrote."""
        return "\n".join(self.log.splitlines()[-LOG_TAIL_LINES:])

    def start(self) -> None:
        """Start it; does not wait until it serves."""
        assert not self.is_running, f"{self.name} is running already"
        self.directory.mkdir(parents=True, exist_ok=True)
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=inherited | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _reaper().watch(self._process.pid)
        if self not in started:
            started.append(self)

    def wait(self, timeout_seconds: float = PATIENCE_SECONDS) -> int:
        """Wait until it has ended by itself and return its exit code (negative: the signal that ended it)."""
        process = self._running()
        try:
            code = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout_seconds} s:\n{self.log_tail}") from None
        _reaper().forget(process.pid)
        return code

    def terminate(self, timeout_seconds: float = PATIENCE_SECONDS) -> int:
        """Ask it to leave (SIGTERM) and return its exit code. Fails when it does not leave in time."""
        self._signal(signal.SIGTERM)
        return self.wait(timeout_seconds)

    def kill(self) -> None:
        """kill -9: it cannot tidy up."""
        self._signal(signal.SIGKILL)
        self.wait()

    def pause(self) -> None:
        """Stall it: its connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stalled one go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Be rid of it, whatever state it is in."""
        if self.is_running:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was never started"
        return self._process


class ServiceProcess(Program):
    """One of our services, ``python -m services.X``, on ports of its own. ``http`` is a client for it."""

    def __init__(self, name: str, module: str, directory: Path, environment: Mapping[str, str]) -> None:
        self._arguments = (module, directory, environment)
        self.port, self.metrics_port = free_port(), free_port()
        ports = {"HOST": HOST, "PORT": str(self.port), "METRICS_PORT": str(self.metrics_port)}
        python = {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
        super().__init__(name, [sys.executable, "-m", module], directory, {**python, **ports, **environment})
        self.url = f"http://{HOST}:{self.port}"
        self.metrics_url = f"http://{HOST}:{self.metrics_port}/metrics"
        self.http = httpx.Client(base_url=self.url, timeout=10)

    def twin(self, name: str) -> ServiceProcess:
        """Another process of the same service over the same files, on other ports; not started."""
        return ServiceProcess(name, *self._arguments)

    @property
    def is_ready(self) -> bool:
        """Whether it answers that it is ready."""
        try:
            return self.http.get("/healthz/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def wait_ready(self, timeout_seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until it is ready; fails at once when it ends instead."""
        eventually(
            lambda: self.is_ready or not self.is_running,
            timeout_seconds,
            lambda: f"{self.name} is not ready:\n{self.log_tail}",
        )
        assert self.is_running, f"{self.name} ended instead of getting ready:\n{self.log_tail}"

    def restart(self) -> None:
        """Stop it if it runs, start it on the same ports and files, and wait until it is ready."""
        if self.is_running:
            self.terminate()
        self.start()
        self.wait_ready()

    def metrics(self) -> str:
        """What it tells Prometheus now, as text."""
        return httpx.get(self.metrics_url).raise_for_status().text

    def close(self) -> None:
        """Be rid of it, whatever state it is in, and of the connections to it."""
        super().close()
        self.http.close()


@cache
def _reaper() -> Reaper:
    """Kills the programs that are left when this process is gone, however it went."""
    reaper = Reaper()
    reaper.start()
    atexit.register(reaper.__exit__, None, None, None)
    return reaper
