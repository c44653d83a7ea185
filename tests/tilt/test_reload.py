"""Process 1 of the development images: the newest code runs, whatever became of the process before."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.process import REPOSITORY, Program
from tests.support.wait import eventually

SERVICE = """
import signal, sys
{before}
print("{says}", flush=True)
signal.pause()
"""
STOPS_CLEANLY = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
NEVER_STOPS = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The code in the image."""
    path = tmp_path / "image" / "services" / "service.py"
    path.parent.mkdir(parents=True)
    (path.parent / "__init__.py").touch()  # a package, as the one that is installed here, which is looked for later
    path.write_text(SERVICE.format(before=STOPS_CLEANLY, says="first"))
    return path


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code in the volume, which is what runs."""
    return tmp_path / "volume" / "services" / "service.py"


@pytest.fixture
def container(tmp_path: Path, source: Path, copy: Path) -> Iterator[Program]:
    """A container, started; its service has said its first word."""
    command = [sys.executable, str(REPOSITORY / "tilt" / "reload.py"), "services.service"]
    program = Program("container", [*command, str(source.parents[1]), str(copy.parents[1])], tmp_path, {})
    program.start()
    eventually(lambda: "first" in program.log, describe=lambda: program.log)
    yield program
    if program.is_running:
        program.terminate()


def test_a_changed_file_runs_after_the_signal(container: Program, copy: Path) -> None:
    """As Tilt does it: the file first, then the signal."""
    copy.write_text(SERVICE.format(before=STOPS_CLEANLY, says="second"))
    os.kill(container.pid, signal.SIGHUP)
    eventually(lambda: "second" in container.log, describe=lambda: container.log)


def test_a_service_that_cannot_start_waits_for_the_next_change(container: Program, copy: Path) -> None:
    """The container goes on, so that the repaired file can be put into it."""
    copy.write_text("this is no Python")
    os.kill(container.pid, signal.SIGHUP)
    eventually(lambda: "the service ended with 1" in container.log, describe=lambda: container.log)
    copy.write_text(SERVICE.format(before=STOPS_CLEANLY, says="repaired"))
    os.kill(container.pid, signal.SIGHUP)
    eventually(lambda: "repaired" in container.log, describe=lambda: container.log)


def test_a_service_that_does_not_stop_is_killed(container: Program, copy: Path) -> None:
    """So that a change shows within seconds."""
    copy.write_text(SERVICE.format(before=NEVER_STOPS, says="stubborn"))
    os.kill(container.pid, signal.SIGHUP)
    eventually(lambda: "stubborn" in container.log, describe=lambda: container.log)
    copy.write_text(SERVICE.format(before=STOPS_CLEANLY, says="free again"))
    os.kill(container.pid, signal.SIGHUP)
    eventually(lambda: "free again" in container.log, describe=lambda: container.log)


def test_a_stopped_container_ends_as_its_service_does(container: Program) -> None:
    """SIGTERM reaches the service, and its exit code reaches Kubernetes."""
    assert container.terminate() == 7


def test_a_container_that_starts_again_runs_what_was_changed(container: Program, copy: Path) -> None:
    """The volume outlives a container of the pod, and what is in it is newer than the image."""
    copy.write_text(SERVICE.format(before=STOPS_CLEANLY, says="changed"))
    container.terminate()
    container.start()
    eventually(lambda: "changed" in container.log, describe=lambda: container.log)
