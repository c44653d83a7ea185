"""Makes the lines that the parts write readable: who, when, how bad, what, and then the values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from rich.text import Text

from services.cli.console import plain

NAME_WIDTH: Final = 10
COLOURS: Final = {"redis": "magenta", "db-updater": "yellow", "read": "green", "write": "cyan", "twitter": "bold"}
LEVEL_STYLES: Final = {"debug": "dim", "info": "", "warning": "yellow", "error": "red", "critical": "bold red"}
_FRAME: Final = {"event", "level", "timestamp", "service", "exception"}
# pid:role day month year time.ms mark text
_REDIS_LINE: Final = re.compile(r"^\d+:[A-Z] \d+ \w+ \d{4} ([\d:]{8})\.\d+ [.\-*#] (.*)$")


def render(name: str, line: str) -> list[Text]:
    """One line of a part as one line for people; a traceback follows its event, a line each."""
    fields = _fields_of(line)
    if fields is not None:
        return [_prefixed(name, text) for text in _event_lines(fields)]
    redis_line = _REDIS_LINE.match(line)
    if redis_line:
        time, text = redis_line.groups()
        return [_prefixed(name, _event(time, "info", text))]
    return [_prefixed(name, Text(plain(line)))]


def remark(name: str, what: str) -> Text:
    """What the supervisor itself says about a part."""
    return _prefixed("twitter", Text.assemble((name, COLOURS.get(name, "")), " ", what))


def _fields_of(line: str) -> dict[str, Any] | None:
    try:
        fields = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return fields if isinstance(fields, dict) and "event" in fields else None


def _event_lines(fields: Mapping[str, Any]) -> list[Text]:
    level = str(fields.get("level", "info"))
    event = _event(_clock_time(str(fields.get("timestamp", ""))), level, str(fields["event"]))
    for key, value in fields.items():
        if key not in _FRAME:
            event.append(f" {key}=", "dim").append(plain(str(value)))
    traceback = str(fields.get("exception", "")).splitlines()
    return [event, *(Text(plain(line), "red") for line in traceback)]


def _event(time: str, level: str, text: str) -> Text:
    style = LEVEL_STYLES.get(level, "")
    shown_level = f"{level} " if level not in {"info", "debug"} else ""
    return Text.assemble((f"{time} ", "dim"), (shown_level + plain(text), style))


def _clock_time(timestamp: str) -> str:
    """``2026-11-22T13:21:00.123Z`` -> ``13:21:00``."""
    return timestamp.partition("T")[2][:8]


def _prefixed(name: str, text: Text) -> Text:
    return Text.assemble((f"{name:<{NAME_WIDTH}} │ ", COLOURS.get(name, "")), text)
