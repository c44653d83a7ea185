"""How a command fails: one line that says what to do next, and an exit code.

Exit codes (also in ``twitter --help``): 0 it is done; 1 it is not, or what was compared differs;
2 the command line is wrong; 3 something the command needs does not answer; 130 interrupted.
"""

from __future__ import annotations

from typing import Final

from services.common.errors import OperationalError, TwitterError

FAILED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3
INTERRUPTED: Final = 130


class CommandFailed(TwitterError):
    """An expected failure of a command. The message is one line and names the next step."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: TwitterError) -> int:
    """The exit code with which a command leaves when this error reaches the command line."""
    if isinstance(error, CommandFailed):
        return error.exit_code
    return UNAVAILABLE if isinstance(error, OperationalError) else FAILED
