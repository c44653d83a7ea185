"""``twitter dev`` as a person uses it: start, a part dies, Ctrl-C, start again, and the worst of ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from services.cli.dev.orphans import Reaper
from services.cli.dev.state import DevState, running_state, sole_supervisor
from tests.support.ports import HOST
from tests.support.process import REPOSITORY, Program
from tests.support.wait import eventually

START_SECONDS: Final = 60.0
pytestmark = pytest.mark.timeout(180)


def _dev(directory: Path, name: str = "dev", *options: str) -> Program:
    ports = [word for part in ("read", "write", "owner", "redis") for word in (f"--{part}-port", "0")]
    command = [sys.executable, "-m", "services.cli", "dev", "--data", str(directory / "data"), *ports, *options]
    return Program(name, command, directory, {"PYTHONPATH": str(REPOSITORY)})


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Program]:
    """A ``twitter dev`` on data of the test's own, not started."""
    program = _dev(tmp_path)
    yield program
    program.close()


def _ready(dev: Program) -> DevState:
    def state() -> DevState | None:
        assert dev.is_running, f"twitter dev ended:\n{dev.log_tail}"
        return running_state(dev.directory / "data")

    found = eventually(state, START_SECONDS, lambda: f"not ready:\n{dev.log_tail}")
    assert found is not None
    return found


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z" if sys.platform == "linux" else True


def _all_gone(pids: list[int]) -> bool:
    return not any(map(_is_alive, pids))


def _create_user(state: DevState, username: str) -> int:
    body = {"username": username, "email": f"{username}@example.com"}
    answer = httpx.post(f"{state.write_url}/users", json=body, timeout=10)
    assert answer.status_code == 201, answer.text
    user_id: int = answer.json()["id"]
    return user_id


def test_a_dead_part_comes_back_and_ctrl_c_leaves_nothing(dev: Program, tmp_path: Path) -> None:
    """Start; kill -9 the read service and see it return; a second dev is refused; Ctrl-C stops all, in order."""
    dev.start()
    state = _ready(dev)
    _create_user(state, "ada")

    os.kill(state.pids["read"], signal.SIGKILL)
    eventually(lambda: "read is ready again" in dev.log, START_SECONDS, lambda: dev.log_tail)
    again = _ready(dev)
    assert "read was killed by SIGKILL; it is started again in 0.5 s" in dev.log
    assert again.pids["read"] != state.pids["read"]
    assert {name: pid for name, pid in again.pids.items() if name != "read"} == {
        name: pid for name, pid in state.pids.items() if name != "read"
    }
    assert httpx.get(f"{state.read_url}/users/by-username/ada", timeout=10).status_code == 200

    second = _dev(tmp_path, "second")
    second.start()
    assert second.wait(START_SECONDS) == 1
    assert "already runs on" in second.log
    assert len(second.log.splitlines()) == 1

    os.kill(dev.pid, signal.SIGINT)
    assert dev.wait(60) == 0
    assert _all_gone([*again.pids.values(), state.pids["read"]])
    ends = [dev.log.rindex(line) for line in ("write      │", "read       │", "db-updater │", "redis      │")]
    assert ends == sorted(ends)
    assert not (tmp_path / "data" / "dev.json").exists()


def test_a_killed_supervisor_takes_its_parts_along_and_loses_nothing(dev: Program) -> None:
    """kill -9 of the supervisor: no part outlives it; at the next start all that was acknowledged is there."""
    dev.start()
    state = _ready(dev)
    user_id = _create_user(state, "ada")
    dev.kill()
    eventually(lambda: _all_gone(list(state.pids.values())), 30, lambda: f"still there: {state.pids}")
    assert running_state(dev.directory / "data") is None

    dev.start()
    state = _ready(dev)
    user = httpx.get(f"{state.read_url}/users/{user_id}", timeout=10)
    assert user.json()["username"] == "ada"
    # The key that e-mails are hashed with is the same again.
    twin = {"username": "ada_again", "email": "ada@example.com"}
    assert httpx.post(f"{state.write_url}/users", json=twin, timeout=10).json()["code"] == "email_taken"
    assert dev.terminate(60) == 0
    assert _all_gone(list(state.pids.values()))


def test_a_part_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    """Exit code 1, the part's own words and a line that names it; nothing is left running."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "twitter.db").write_text("this is no database, but it is long enough to be looked at" * 100)
    dev = _dev(tmp_path)
    dev.start()
    assert dev.wait(START_SECONDS) == 1
    assert "twitter: db-updater ended with code" in dev.log
    assert "redis" in dev.log


def test_a_taken_port_is_a_line_that_says_what_to_do(tmp_path: Path) -> None:
    """Before anything is started."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        dev = _dev(tmp_path, "dev", "--read-port", str(port))
        dev.start()
        assert dev.wait(START_SECONDS) == 1
    assert dev.log.startswith(f"twitter: port {port} (read) is in use")
    assert "--read-port" in dev.log
    assert len(dev.log.splitlines()) == 1


def test_with_json_stdout_says_where_everything_is(tmp_path: Path) -> None:
    """A line once all is ready, as others find it in dev.json; the logs are on stderr."""
    dev = subprocess.Popen(
        [*_dev(tmp_path).command, "--json"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert dev.stdout is not None
    try:
        state = json.loads(dev.stdout.readline())
        assert httpx.get(f"{state['read_url']}/healthz/ready", timeout=10).status_code == 200
        dev.terminate()
        rest, logs = dev.communicate(timeout=START_SECONDS)
    finally:
        dev.kill()
    assert (dev.returncode, rest) == (0, "")
    assert set(state["pids"]) == {"redis", "db-updater", "read", "write"}
    assert "everything is stopped" in " ".join(logs.replace("│", " ").split())


def test_dev_stops_when_nobody_reads_its_logs(tmp_path: Path) -> None:
    """`twitter dev | head` ends like Ctrl-C: no traceback, nothing left running."""
    command = _dev(tmp_path).command
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    dev = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert dev.stdout is not None
    dev.stdout.close()
    try:
        _, complaints = dev.communicate(timeout=START_SECONDS)
    finally:
        dev.kill()
    assert (dev.returncode, complaints) == (0, "")
    with sole_supervisor(tmp_path / "data"):
        pass


def test_a_reaper_kills_what_its_maker_left(tmp_path: Path) -> None:
    """Where the kernel does not do it: the children die with a maker that was killed, and only those."""
    pids = tmp_path / "pids"
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    maker = Program(
        "maker",
        [
            sys.executable,
            "-c",
            (
                "import subprocess, sys, pathlib, time\n"
                "from services.cli.dev.orphans import Reaper\n"
                "reaper = Reaper(); reaper.start()\n"
                f"children = [subprocess.Popen({sleep!r}) for _ in range(3)]\n"
                "for child in children: reaper.watch(child.pid)\n"
                "children[0].kill(); children[0].wait(); reaper.forget(children[0].pid)\n"
                f"path = pathlib.Path({str(pids)!r}); path.with_suffix('.tmp').write_text(\n"
                "    ' '.join(str(child.pid) for child in children)); path.with_suffix('.tmp').rename(path)\n"
                "time.sleep(600)\n"
            ),
        ],
        tmp_path,
        {"PYTHONPATH": str(REPOSITORY)},
    )
    bystander = subprocess.Popen(sleep)
    try:
        maker.start()
        eventually(pids.exists, 20, lambda: maker.log_tail)
        children = [int(pid) for pid in pids.read_text().split()]
        assert list(map(_is_alive, children)) == [False, True, True]
        maker.kill()
        eventually(lambda: _all_gone(children), 10, lambda: children)
        assert bystander.poll() is None
    finally:
        maker.close()
        bystander.kill()
        bystander.wait()


def test_a_reaper_that_was_killed_harms_nobody() -> None:
    """Its maker goes on without it."""
    with Reaper() as reaper:
        reaper.start()
        assert reaper._process is not None
        reaper._process.kill()
        reaper._process.wait()
        reaper.watch(12345)
        reaper.forget(12345)
