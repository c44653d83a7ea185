"""The benchmark still runs, at a size that says nothing of speed; and what it concludes from figures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from socket import create_server, socket
from xml.etree import ElementTree as ET

import pytest

from bench import command, openloop, plots, report, results
from bench.machine import describe
from bench.openloop import Request
from bench.results import Results, Series, at_least, at_most, ratio_figure
from bench.rounds import Scale
from bench.scenarios import applying, freshness, generator, home, reading, writing

TINY = Scale(tweets=500, users=100, seconds=1, warm_up_seconds=1, rounds=1, backlog=6_000, connections=4)
STALL_SECONDS = 0.5
RATE = 200


@pytest.mark.timeout(180)
def test_scenarios_run_from_start_to_end(tmp_path: Path) -> None:
    """Each of these starts what it needs, measures and is done; the results can be kept, shown and drawn."""
    scenarios = (
        generator.generators,
        reading.tweet_hot,
        writing.post,
        applying.catching_up,
        freshness.visible,
        home.home,
    )
    found = command.run(scenarios, TINY)
    assert found.failures == {}
    names = {
        "wrk_cpu",
        "tweet_hot",
        "post",
        "log_of_posts",
        "owner_backlog",
        "visible_p50",
        "home",
        "home_first",
        "home_p99",
    }
    assert {figure.name for figure in found.figures} >= names
    assert all(figure.value > 0 for figure in found.figures if figure.unit == "ratio")
    kept = tmp_path / "results.json"
    results.save(found, kept)
    assert results.load(kept) == found
    assert len(results.table(found.figures).splitlines()) == 2 + len(found.figures)
    assert ET.fromstring(plots.bars(found.figures)).tag.endswith("svg")  # noqa: S314 - our own


def test_a_ratio_that_drops_by_more_than_the_noise_is_told() -> None:
    """Larger is better for some, smaller for others; a wide spread of rounds allows for more."""
    before = _results(reads=[(90, 100), (91, 100)], latency=[(1.0, 1.0), (1.02, 1.0)], wild=[(50, 100), (150, 100)])
    assert results.drops(before, before) == []
    slightly = _results(reads=[(88, 100)], latency=[(1.05, 1.0)], wild=[(70, 100)])
    assert results.drops(before, slightly) == []
    worse = _results(reads=[(75, 100)], latency=[(1.5, 1.0)], wild=[(70, 100)])
    assert [line.split(":")[0] for line in results.drops(before, worse)] == ["reads", "latency"]
    better = _results(reads=[(120, 100)], latency=[(0.5, 1.0)], wild=[(100, 100)])
    assert results.drops(before, better) == []


def test_requests_that_were_due_in_a_stall_say_that_they_waited(stalling_server: str) -> None:
    """A generator that waits for its answer would have sent one request meanwhile, and shown one slow answer."""
    message = openloop.get(stalling_server, "/")
    asked = (Request("get", stalling_server, each) for each in repeat(message))
    outcome = openloop.run(asked, rate=RATE, seconds=5 * STALL_SECONDS, connections=1)
    waited = [latency for latency in outcome.latencies_ms["get"] if latency > 1000 * STALL_SECONDS / 5]
    assert outcome.failed == 0
    assert len(waited) >= RATE * STALL_SECONDS / 2


def test_curves_are_drawn() -> None:
    """Of one point, too."""
    curves = [
        Series("a", "reads", "tweets", "requests/s", [(10, 5.0), (100, 4.0)]),
        Series("b", "x", "y", "z", [(1, 1)]),
    ]
    assert plots.lines(curves).count("<circle") == 3


def test_the_page_shows_the_results_that_are_kept() -> None:
    """`python -m bench.report` writes them; a figure that was not measured cannot stay on the page."""
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.page_with_results(page) == page
    for path, svg in report.drawn():
        assert path.read_text(encoding="utf-8") == svg, f"{path.name} is of other results"


@pytest.fixture
def stalling_server() -> Iterator[str]:
    """Answers every request, but the 200th only after a stall."""
    with create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def _answer(listener: socket) -> None:
    released = threading.Event()
    connection, _ = listener.accept()
    with connection:
        answered = 0
        while connection.recv(65536):
            answered += 1
            if answered == RATE:
                released.wait(STALL_SECONDS)  # nobody sets it: the server stalls
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def _results(
    reads: list[tuple[float, float]], latency: list[tuple[float, float]], wild: list[tuple[float, float]]
) -> Results:
    figures = [
        ratio_figure("reads", "reads", "bare", reads, at_least(0.9)),
        ratio_figure("latency", "latency", "append", latency, at_most(1.5)),
        ratio_figure("wild", "anything", "bare", wild),
    ]
    return Results("2026-11-22T20:00:00+00:00", 1.0, describe(), {}, figures)
