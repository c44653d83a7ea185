"""What people see of the lines that the parts of ``twitter dev`` write."""

from __future__ import annotations

import json

from services.cli.dev.lines import remark, render


def _shown(name: str, line: str) -> list[str]:
    return [text.plain for text in render(name, line)]


def test_an_event_is_who_when_what_and_its_values() -> None:
    """The frame of a JSON line goes, its values stay; only what is worse than info says how bad it is."""
    line = {
        "batch": 3,
        "event": "batch_applied",
        "level": "info",
        "service": "x",
        "timestamp": "2026-11-22T13:21:00.1Z",
    }
    assert _shown("read", json.dumps(line)) == ["read       │ 13:21:00 batch_applied batch=3"]
    assert _shown("read", json.dumps(line | {"level": "warning"})) == [
        "read       │ 13:21:00 warning batch_applied batch=3"
    ]


def test_a_traceback_follows_its_event_line_by_line() -> None:
    """Folded into JSON nobody can read it."""
    line = json.dumps({"event": "failed", "level": "error", "exception": "Traceback\n  File x\nValueError"})
    assert _shown("write", line)[1:] == ["write      │ Traceback", "write      │   File x", "write      │ ValueError"]


def test_a_line_of_redis_keeps_its_time_and_text() -> None:
    """Its process id and date say nothing here."""
    line = "11077:M 22 Nov 2026 13:53:09.123 * Ready to accept connections tcp"
    assert _shown("redis", line) == ["redis      │ 13:53:09 Ready to accept connections tcp"]


def test_anything_else_is_shown_as_it_is() -> None:
    """A print, JSON that is no event, an event without a time."""
    for line in ("Segmentation fault", "[1, 2]", '{"no": "event"}', "[red]not markup[/red]"):
        assert _shown("read", line) == [f"read       │ {line}"]


def test_no_line_talks_to_the_terminal() -> None:
    """Whatever a client put into a value that is logged."""
    line = json.dumps({"event": "odd", "value": "\x1b[2J\rboo", "timestamp": "2026-11-22T13:21:00Z"})
    assert _shown("read", line) == [r"read       │ 13:21:00 odd value=\x1b[2J\x0dboo"]
    assert _shown("read", "\x1b]0;title\x07") == [r"read       │ \x1b]0;title\x07"]


def test_the_supervisor_speaks_under_its_own_name() -> None:
    """So that its words are not taken for the part's."""
    assert remark("read", "is ready again").plain == "twitter    │ read is ready again"
