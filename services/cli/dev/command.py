"""The command ``twitter dev``."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import typer
from rich.console import Console

from services.cli.dev.lines import remark, render
from services.cli.dev.orphans import Reaper
from services.cli.dev.part import Child, Part
from services.cli.dev.plan import Plan, Ports, make_plan
from services.cli.dev.process import launch
from services.cli.dev.secrets import keep_secrets
from services.cli.dev.state import sole_supervisor, write_state
from services.cli.dev.supervisor import Supervisor
from services.cli.errors import CommandFailed
from services.cli.settings import DATA_DIR, DataOption, read_settings
from services.common.log.redis_url import without_password

PORTS: Final = Ports()
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def dev(
    data_dir: DataOption = DATA_DIR,
    read_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the read service; 0 takes a free one.")
    ] = PORTS.read,
    write_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the write service; 0 takes a free one.")
    ] = PORTS.write,
    owner_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the db-updater; 0 takes a free one.")
    ] = PORTS.owner,
    redis_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of our own Redis; a free one is taken when this is not.")
    ] = PORTS.redis,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="Lowest level that is shown.")
    ] = "info",
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print where everything is as JSON, a line when it changes; logs go to stderr."),
    ] = False,
) -> None:
    """Start the whole system on this machine and show its logs; Ctrl-C stops it.

    Redis (an embedded one unless REDIS_URL is set), db-updater, read and write service run as processes of their
    own; one that dies is started again. The data stays in ./data and is there again at the next start.
    """
    data_dir = data_dir.absolute()
    _make_directories(data_dir)
    with sole_supervisor(data_dir):
        ports = Ports(read_port, write_port, owner_port, redis_port)
        settings = read_settings()
        plan = make_plan(
            data_dir,
            ports,
            redis_url=settings.redis_url,
            database_url=settings.database_url,
            secrets=keep_secrets(data_dir / "keys"),
            log_level=log_level,
        )
        asyncio.run(_supervise(plan, data_dir, as_json=as_json))


class _Terminal(Console):
    """Where the logs go. When nobody reads them any more (``twitter dev | head``), it asks for a stop."""

    def __init__(self, stop_requested: asyncio.Event, *, is_stderr: bool) -> None:
        super().__init__(highlight=False, soft_wrap=True, stderr=is_stderr)
        self._stop_requested = stop_requested

    def on_broken_pipe(self) -> None:
        """Say no more, not even at exit."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        self._stop_requested.set()


async def _supervise(plan: Plan, data_dir: Path, *, as_json: bool) -> None:
    stop_requested = asyncio.Event()
    console = _Terminal(stop_requested, is_stderr=as_json)
    is_first_change = True

    def say(name: str, what: str) -> None:
        console.print(remark(name, what))

    def show_line(name: str, line: str) -> None:
        for text in render(name, line):
            console.print(text)

    async def start(part: Part) -> Child:
        return await launch(part, show_line, reaper)

    def on_change() -> None:
        nonlocal is_first_change
        state = msgspec.structs.replace(plan.state, pids=supervisor.pids)
        write_state(data_dir, state)
        if as_json:
            typer.echo(msgspec.json.encode(state))
        elif is_first_change:
            _greet(console, plan, data_dir)
        is_first_change = False

    with Reaper() as reaper:
        supervisor = Supervisor(plan.stages, start, say, on_change)
        _stop_on_signals(supervisor, stop_requested, say)
        await supervisor.run(stop_requested)
    say("everything", "is stopped")


def _stop_on_signals(supervisor: Supervisor, stop_requested: asyncio.Event, say: Callable[[str, str], None]) -> None:
    """The first signal asks for an orderly stop, the second one kills."""

    def stop() -> None:
        if stop_requested.is_set():
            say("everything", "is killed")
            supervisor.kill()
            return
        say("everything", "is being stopped (Ctrl-C again kills)")
        stop_requested.set()

    for number in STOP_SIGNALS:
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # nohup: it shall outlive its terminal
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _greet(console: Console, plan: Plan, data_dir: Path) -> None:
    state = plan.state
    user = '{"username": "ada", "email": "ada@example.com"}'
    elsewhere = "" if data_dir == DATA_DIR.absolute() else f" --data {data_dir}"
    console.print(
        f"\n  write  {state.write_url}   API: {state.write_url}/docs"
        f"\n  read   {state.read_url}   API: {state.read_url}/docs"
        f"\n  redis  {without_password(state.redis_url)}"
        f"\n  data   {data_dir}"
        f"\n\n  Try:   curl {state.write_url}/users -H 'content-type: application/json' -d '{user}'"
        f"\n         twitter log --follow{elsewhere}\n",
        markup=False,
    )


def _make_directories(data_dir: Path) -> None:
    try:
        for path in (data_dir, data_dir / "redis", data_dir / "replica"):
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(f"cannot use {data_dir} for data ({error.strerror}): choose another with --data") from error
