"""What the tests stand on: programs that end with the run that started them, and servers that keep their word."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis.exceptions import TimeoutError as RedisTimeout

from tests.support.process import REPOSITORY, Program
from tests.support.redis_server import RedisServer
from tests.support.skewed_clock import SkewedClock, build_clock_library
from tests.support.wait import eventually

YEAR_SECONDS = 365 * 86400.0


def is_alive(pid: int) -> bool:
    """Whether a process of that number exists and is no zombie."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def test_programs_die_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    """A run that is killed with kill -9 leaves no server behind."""
    run = subprocess.Popen(
        [sys.executable, "-c", RUN_THAT_HANGS, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    with run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert is_alive(pid)
        run.kill()
    eventually(lambda: not is_alive(pid), describe=lambda: f"{pid} is still there")


RUN_THAT_HANGS = """
import sys
from pathlib import Path
from tests.support.process import Program

program = Program("sleeper", ["sleep", "600"], Path(sys.argv[1]), {})
program.start()
print(program.pid, flush=True)
program.wait(600)
"""


def test_redis_keeps_what_it_acknowledged_over_a_kill(fresh_redis: RedisServer) -> None:
    """Killed and started again, it is the same server: same address, same data."""
    with fresh_redis.client() as redis:
        redis.set("key", "value")
    fresh_redis.kill()
    fresh_redis.start()
    with fresh_redis.client() as redis:
        assert redis.get("key") == b"value"


def test_a_paused_redis_answers_after_it_is_resumed(fresh_redis: RedisServer) -> None:
    """While it is paused a call times out on an open connection."""
    with fresh_redis.client(timeout_seconds=0.1) as redis:
        redis.ping()
        fresh_redis.pause()
        with pytest.raises(RedisTimeout):
            redis.ping()
    fresh_redis.resume()
    with fresh_redis.client() as redis:
        assert redis.ping()


def test_a_program_sees_nothing_of_the_callers_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A REDIS_URL that a developer exported must not reach the programs that a test runs."""
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    program = Program("env", ["env"], tmp_path, {"PORT": "1"})
    program.start()
    assert program.wait() == 0
    assert "PORT=1" in program.log
    assert "REDIS_URL" not in program.log


def test_a_program_that_does_not_end_in_time_fails_with_its_log(tmp_path: Path) -> None:
    """What it said last is in the failure."""
    program = Program("deaf", ["sh", "-c", "trap '' TERM; echo I stay; while :; do sleep 1; done"], tmp_path, {})
    program.start()
    eventually(lambda: "I stay" in program.log)
    with pytest.raises(AssertionError, match=r"did not end within(.|\n)*I stay"):
        program.terminate(timeout_seconds=0.2)
    program.close()
    assert program.wait() == -signal.SIGKILL


def test_a_program_sees_a_wall_clock_of_its_own(tmp_path: Path) -> None:
    """A step is seen at once by a server that runs, and by what is started after it; elapsed time is as ever."""
    library = build_clock_library(tmp_path)
    if library is None:
        pytest.skip("needs Linux and a C compiler")
    clock = SkewedClock(library, tmp_path / "skew")
    redis = RedisServer(tmp_path / "redis")
    redis.environment.update(clock.environment)
    redis.start()
    with redis.client() as client:
        for skew in (0.0, -YEAR_SECONDS, YEAR_SECONDS + 0.5):
            clock.seconds = skew
            seconds, microseconds = client.time()
            assert seconds + microseconds / 1e6 == pytest.approx(time.time() + skew, abs=60)
            shown = subprocess.run(
                [sys.executable, "-c", "import time; print(time.time(), time.time_ns() / 1e9, time.monotonic())"],
                env=dict(clock.environment),
                capture_output=True,
                text=True,
                check=True,
            )
            wall, wall_again, elapsed = map(float, shown.stdout.split())
            assert wall == pytest.approx(time.time() + skew, abs=60)
            assert wall_again == pytest.approx(time.time() + skew, abs=60)
            assert elapsed == pytest.approx(time.monotonic(), abs=60)
    redis.close()
