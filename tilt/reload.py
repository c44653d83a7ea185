"""Runs a service out of a copy of its code that may be written to, and starts it again on SIGHUP.

    python reload.py MODULE SOURCE_DIR COPY_DIR

Process 1 of the development images: Tilt and Skaffold put changed files into COPY_DIR, then send the signal. The pod is
the one of production, with its read-only root file system and its user; the copy is in the volume at /tmp.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Final

STOP_SECONDS_MAX: Final = 2.0
"""How long a service may finish what it does before a new one starts: nothing is lost by a kill."""


def main() -> int:
    """Run until SIGTERM or SIGINT; the exit code of the service."""
    module, source, copy = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    # A container that is started again finds the copy of the one before it, newer than its image.
    shutil.copytree(source, copy, copy_function=_copy_if_absent, dirs_exist_ok=True)
    return asyncio.run(_run(module, copy))


def _copy_if_absent(source: str, copy: str) -> None:
    if not Path(copy).exists():
        shutil.copy2(source, copy)  # with its time of change, by which compiled bytecode stays valid


async def _run(module: str, directory: Path) -> int:
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for received in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(received, signals.put_nowait, received)
    while True:
        service = await asyncio.create_subprocess_exec(sys.executable, "-m", module, cwd=directory)
        watch = asyncio.create_task(_say_if_it_ends(service))
        received = await signals.get()
        watch.cancel()
        if received != signal.SIGHUP:
            _send(service, received)
            return await service.wait()
        await _stop(service)


async def _say_if_it_ends(service: Process) -> None:
    """A service that cannot start waits for the next change; if that takes long, its liveness probe ends the pod."""
    code = await service.wait()
    print(f"reload: the service ended with {code}; it starts again when a file changes", file=sys.stderr, flush=True)


async def _stop(service: Process) -> None:
    _send(service, signal.SIGTERM)
    try:
        await asyncio.wait_for(service.wait(), STOP_SECONDS_MAX)
    except TimeoutError:
        service.kill()
        await service.wait()


def _send(service: Process, what: signal.Signals) -> None:
    if service.returncode is None:
        service.send_signal(what)


if __name__ == "__main__":
    sys.exit(main())
