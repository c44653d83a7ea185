"""Real child processes: started so that Ctrl-C reaches only the supervisor, and that they die with it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Final

from services.cli.dev.orphans import Reaper, die_with_parent
from services.cli.dev.part import Part
from services.cli.errors import CommandFailed

LINE_BYTES_MAX: Final = 65_536
LAST_LINES_SECONDS: Final = 1.0

ShowLine = Callable[[str, str], None]
"""Receives a part's name and one line that it wrote."""


class ChildProcess:
    """A running part, its output read line by line until it ends."""

    def __init__(self, process: asyncio.subprocess.Process, output: asyncio.Task[None], reaper: Reaper) -> None:
        self._process = process
        self._ended = asyncio.ensure_future(self._until_end(output, reaper))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait(self) -> int:
        """The exit code, once it has ended and its last line was shown."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """Ask it to leave."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _until_end(self, output: asyncio.Task[None], reaper: Reaper) -> int:
        code = await self._process.wait()
        reaper.forget(self.pid)
        # Bounded: a process that the part itself started may hold the pipe open for longer.
        await asyncio.wait({output}, timeout=LAST_LINES_SECONDS)
        return code


async def launch(part: Part, show_line: ShowLine, reaper: Reaper) -> ChildProcess:
    """Start a part in a session of its own. Raises CommandFailed when its program cannot be run."""
    try:
        process = await asyncio.create_subprocess_exec(
            *part.command,
            env={**os.environ, **part.environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
    except OSError as error:
        raise CommandFailed(f"cannot run {part.command[0]} ({part.name}): {error.strerror}") from error
    reaper.watch(process.pid)
    assert process.stdout is not None  # noqa: S101 - it was asked for
    output = asyncio.create_task(_show_output(part.name, process.stdout, show_line))
    return ChildProcess(process, output, reaper)


async def _show_output(name: str, stream: asyncio.StreamReader, show_line: ShowLine) -> None:
    async for line in lines_of(stream):
        show_line(name, line)


async def lines_of(stream: asyncio.StreamReader) -> AsyncIterator[str]:
    """The lines of a stream until it ends; one longer than LINE_BYTES_MAX arrives in pieces."""
    rest = b""
    while chunk := await stream.read(LINE_BYTES_MAX):
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            whole, rest = [*whole, rest], b""
        for line in whole:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")
