"""The ``twitter`` command: every subcommand, and how their failures are shown."""

from __future__ import annotations

from typing import Any, Final

import typer
from typer.core import TyperGroup

from services.cli import errors
from services.cli.backup import backup
from services.cli.console import err, plain
from services.cli.dead_letters import dead_letters_app
from services.cli.demo.command import demo
from services.cli.dev.command import dev
from services.cli.doctor.command import doctor
from services.cli.export import export
from services.cli.importing.command import import_
from services.cli.rebuild import rebuild
from services.cli.restore import restore
from services.cli.show_log import show_log
from services.cli.snapshot import snapshot
from services.cli.token_commands import token_app
from services.cli.user_commands import user_app
from services.cli.verify import verify
from services.common.errors import TwitterError
from services.common.telemetry import configure_logging

HELP: Final = """Run the system on this machine, load it, look into it and check it.

Exit codes: 0 done; 1 not done, or what was compared differs; 2 wrong usage; 3 something needed does not answer;
130 interrupted. That of doctor is the number of findings that need action.
"""


class Commands(TyperGroup):
    """Shows an expected failure as one line and leaves with its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for. What is logged goes to stderr, if it is a warning or worse."""
        configure_logging("twitter", "warning")
        try:
            return super().invoke(ctx)
        except TwitterError as error:
            err().print(f"twitter: {plain(str(error))}", style="red", markup=False)
            raise typer.Exit(errors.exit_code_of(error)) from error
        except KeyboardInterrupt as interrupt:
            raise typer.Exit(errors.INTERRUPTED) from interrupt


app = typer.Typer(
    name="twitter",
    help=HELP,
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(dev)
app.command("import")(import_)
app.command()(export)
app.command()(demo)
app.command("log")(show_log)
app.command()(doctor)
app.command()(rebuild)
app.command()(verify)
app.add_typer(user_app)
app.add_typer(token_app)
app.add_typer(dead_letters_app)
app.command()(backup)
app.command()(restore)
app.command()(snapshot)
