"""One pipeline for everything a process says; one registry for each app."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import structlog

from services.common.telemetry import (
    LogFormat,
    MetricsServer,
    configure_logging,
    create_registry,
    request_id_var,
    version,
)

Configure = Callable[..., None]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """configure_logging, undone afterwards."""
    logging.captureWarnings(False)  # on since another test's command, it would not be put in place of pytest's again
    root = logging.getLogger()
    handlers, level, structlog_config = root.handlers[:], root.level, structlog.get_config()

    def configure_small(level: str = "info", log_format: LogFormat = "json") -> None:
        configure_logging("small", level, log_format)

    yield configure_small
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**structlog_config)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was logged, a line each."""
    return capsys.readouterr().err.splitlines()


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged as JSON."""
    return [json.loads(line) for line in lines(capsys)]


def test_everything_is_one_json_object_a_line(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours, a library's, and warnings; ``auto`` where there is no terminal is JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure(log_format="auto")
        structlog.get_logger("ours").info("batch_applied", entries=3)
        logging.getLogger("library").warning("careful with %s", "this")
        warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    ours, library, warning = records(capsys)
    assert (ours["event"], ours["entries"], ours["level"], ours["service"]) == ("batch_applied", 3, "info", "small")
    assert (library["event"], library["level"], library["service"]) == ("careful with this", "warning", "small")
    assert "deprecated" in warning["event"]
    assert ours["timestamp"].endswith("Z")


def test_the_request_being_served_is_named(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """In our lines and in a library's."""
    configure()
    token = request_id_var.set(b"abc-1")
    try:
        structlog.get_logger().info("ours")
        logging.getLogger("library").warning("theirs")
    finally:
        request_id_var.reset(token)
    structlog.get_logger().info("afterwards")
    assert [record.get("request_id") for record in records(capsys)] == ["abc-1", "abc-1", None]


def test_the_level_is_a_floor(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    """Libraries that speak up for each request stay below it all the same."""
    configure(level="info")
    structlog.get_logger().debug("too_low")
    logging.getLogger("httpx").info("HTTP Request: GET http://host")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert lines(capsys) == []
    configure(level="debug")
    structlog.get_logger().debug("low_enough")
    assert [record["event"] for record in records(capsys)] == ["low_enough"]


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("value", ["a\nforged line", "a\r\nb", "\x1b[2J\x1b]0;title\x07", "a\x00b\x85c", "\ud800"])
def test_a_value_cannot_break_its_line_or_reach_the_terminal(
    configure: Configure, capsys: pytest.CaptureFixture[str], log_format: str, value: str
) -> None:
    """Neither as a value nor as the message of a library."""
    configure(log_format=log_format)
    structlog.get_logger().info("request", path=value)
    logging.getLogger("library").warning(value)
    logged = lines(capsys)
    assert len(logged) == 2
    assert all(line.isprintable() for line in logged)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_is_logged_without_local_variables(
    configure: Configure, capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    """They hold passwords; and the message of an exception cannot talk to the terminal either."""
    configure(log_format=log_format)

    def fail() -> None:
        password = "hunter2".upper()
        raise ValueError("\x1b[2J" + password[:0])

    try:
        fail()
    except ValueError as error:
        structlog.get_logger().error("request_failed", exc_info=error)
    logged = "\n".join(lines(capsys))
    assert "Traceback" in logged
    assert "in fail" in logged
    assert "HUNTER2" not in logged
    assert "\x1b" not in logged


def test_a_registry_says_what_is_running() -> None:
    """Version, Python and SQLite; and what the process uses. Each app has its own."""
    registry = create_registry(sqlite_version="3.51.3")
    (build,) = (metric for metric in registry.collect() if metric.name == "build")
    assert build.samples[0].name == "build_info"
    assert build.samples[0].labels["version"] == version()
    assert build.samples[0].labels["sqlite"] == "3.51.3"
    assert registry is not create_registry()
    assert registry.get_sample_value("process_cpu_seconds_total")


def test_metrics_are_served_on_a_port_of_their_own() -> None:
    """Until the server is closed."""
    server = MetricsServer("127.0.0.1", 0, create_registry())
    url = f"http://127.0.0.1:{server.port}/metrics"
    try:
        with urlopen(url, timeout=5) as response:
            assert b"build_info{" in response.read()
    finally:
        server.close()
    with pytest.raises(URLError):
        urlopen(url, timeout=5)


def test_a_taken_metrics_port_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """In a line that says which variable to set; the exit code is 2."""
    server = MetricsServer("127.0.0.1", 0, create_registry())
    try:
        with pytest.raises(SystemExit) as stopped:
            MetricsServer("127.0.0.1", server.port, create_registry())
    finally:
        server.close()
    assert stopped.value.code == 2
    assert f"METRICS_PORT: cannot listen on 127.0.0.1:{server.port}" in capsys.readouterr().err
