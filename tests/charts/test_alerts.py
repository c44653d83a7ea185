"""The alerts: each is about a metric that exists, fires when it should, and has its entry in the operators' page."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.charts import metrics, tools
from tests.charts.rendering import Renderer, default_values, of_kind
from tests.support.process import REPOSITORY

SETTINGS: Final = ("alerts.enabled=true", "global.metrics.scrape=serviceMonitor")
OPERATIONS: Final = REPOSITORY / "docs" / "operations.md"
READ, WRITE, OWNER = (f'namespace="tw",job="rel-{name}"' for name in ("read-service", "write-service", "db-updater"))
HOUR, DAY = 3600, 86400


@dataclass(frozen=True, slots=True)
class Story:
    """Series in promtool's notation, a value each minute: those with which an alert fires at ``at``, and does not."""

    fires: dict[str, str]
    calm: dict[str, str]
    at: str = "15m"


def _requests(status: str, per_minute: int, route: str = "/tweets/{tweet_id}") -> dict[str, str]:
    return {f'http_requests_total{{{READ},route="{route}",method="GET",status="{status}"}}': _rising(per_minute)}


def _rising(per_minute: int) -> str:
    return f"0+{per_minute}x30"


def _seconds(fast_per_minute: int) -> dict[str, str]:
    """100 requests a minute, of which so many are answered within 0.1 s and the others within 1 s."""
    labels = f'{READ},route="/tweets/{{tweet_id}}",method="GET",status="200"'
    counts = {"0.1": fast_per_minute, "1.0": 100, "+Inf": 100}
    return {f'http_request_seconds_bucket{{{labels},le="{le}"}}': _rising(count) for le, count in counts.items()}


STORIES: Final = {
    "TwitterLogHalted": Story({f"log_halted{{{WRITE}}}": "1x15"}, {f"log_halted{{{WRITE}}}": "0x14 1"}),
    "TwitterLogUnwritable": Story(
        {f'log_writable{{{WRITE},pod="a"}}': "0x15", f'log_writable{{{WRITE},pod="b"}}': "0x15"},
        {f'log_writable{{{WRITE},pod="a"}}': "0x15", f'log_writable{{{WRITE},pod="b"}}': "1x15"},
    ),
    "TwitterRedisUnsafe": Story(
        {f"log_durability_findings{{{WRITE}}}": "2x15"}, {f"log_durability_findings{{{WRITE}}}": "0x15"}
    ),
    "TwitterLogFull": Story({f"log_full{{{WRITE}}}": "1x15"}, {f"log_full{{{WRITE}}}": "0x15"}),
    "TwitterLogNearlyFull": Story(
        {f"log_bytes{{{WRITE}}}": "51x15", f"log_bytes_max{{{WRITE}}}": "100x15"},
        {f"log_bytes{{{WRITE}}}": "49x15", f"log_bytes_max{{{WRITE}}}": "100x15"},
    ),
    "TwitterEntriesLost": Story(
        # A day ago is before promtool's clock begins.
        {f"recovery_timestamp_seconds{{{OWNER}}}": f"{15 * 60 - DAY + 1}x15"},
        {f"recovery_timestamp_seconds{{{OWNER}}}": f"{15 * 60 - DAY}x15"},
    ),
    "TwitterDeadLetters": Story({f"dead_letters{{{OWNER}}}": "1x15"}, {f"dead_letters{{{OWNER}}}": "0x15"}),
    "TwitterNoOwner": Story({f"up{{{OWNER}}}": "1x5 0x10"}, {f"up{{{OWNER}}}": "0x12 1x3"}),
    "TwitterTwoOwners": Story(
        {f'up{{{OWNER},pod="a"}}': "1x15", f'up{{{OWNER},pod="b"}}': "1x15"},
        {f'up{{{OWNER},pod="a"}}': "1x15", f'up{{{OWNER},pod="b"}}': "0x15"},
    ),
    "TwitterOwnerStopped": Story({f"applying{{{OWNER}}}": "0x15"}, {f"applying{{{OWNER}}}": "1x13 0x2"}),
    "TwitterOwnerBehind": Story({f"lag_seconds{{{OWNER}}}": "31x15"}, {f"lag_seconds{{{OWNER}}}": "29x15"}),
    "TwitterVolumeFilling": Story(
        {f"volume_free_bytes{{{OWNER}}}": "19x15", f"volume_bytes{{{OWNER}}}": "100x15"},
        {f"volume_free_bytes{{{OWNER}}}": "21x15", f"volume_bytes{{{OWNER}}}": "100x15"},
    ),
    "TwitterBackupOld": Story(
        {
            f"backup_interval_seconds{{{OWNER}}}": f"{HOUR}x300",
            f"backup_success_timestamp_seconds{{{OWNER}}}": "60x300",
            f"process_start_time_seconds{{{OWNER}}}": "60x300",
        },
        {
            f"backup_interval_seconds{{{OWNER}}}": f"{HOUR}x300",
            f"backup_success_timestamp_seconds{{{OWNER}}}": f"{HOUR}x300",
            f"process_start_time_seconds{{{OWNER}}}": "60x300",
        },
        at="3h",
    ),
    "TwitterBackupFails": Story(
        {f"backup_failures_total{{{OWNER}}}": "0x5 1 2 3x8"}, {f"backup_failures_total{{{OWNER}}}": "0x5 1x10"}
    ),
    "TwitterReaderStale": Story(
        {f'replica_lag_seconds{{{READ},pod="a"}}': "31x15"}, {f'replica_lag_seconds{{{READ},pod="a"}}': "29x15"}
    ),
    "TwitterReaderOutrun": Story(
        {f'snapshots_taken_total{{{READ},pod="a"}}': "1 1 2 3 4 5 5x9"},
        {f'snapshots_taken_total{{{READ},pod="a"}}': "1 1 2 2x12"},
    ),
    "TwitterServiceDown": Story(
        {f"up{{{READ}}}": "1x15"},
        {f"up{{{READ}}}": "1x15", f'up{{{WRITE},pod="a"}}': "0x15", f'up{{{WRITE},pod="b"}}': "1x15"},
    ),
    "TwitterErrors": Story(
        _requests("200", 97) | _requests("503", 3), _requests("200", 99) | _requests("404", 50) | _requests("503", 1)
    ),
    "TwitterShedding": Story(
        {f'operational_errors_total{{{WRITE},code="overloaded"}}': _rising(5)},
        {f'operational_errors_total{{{WRITE},code="log_unavailable"}}': _rising(5)},
    ),
    "TwitterSlow": Story(_seconds(98), _seconds(100)),
    "TwitterKeyFileRefused": Story(
        {f"auth_key_file_refused{{{READ}}}": "1x15"}, {f"auth_key_file_refused{{{READ}}}": "0x15"}
    ),
}

CALM_TOO: Final = {
    "TwitterBackupOld": {
        "none are made": {
            f"backup_interval_seconds{{{OWNER}}}": "0x300",
            f"backup_success_timestamp_seconds{{{OWNER}}}": "0x300",
            f"process_start_time_seconds{{{OWNER}}}": "60x300",
        },
        "the first one is under way": {
            f"backup_interval_seconds{{{OWNER}}}": f"{HOUR}x300",
            f"backup_success_timestamp_seconds{{{OWNER}}}": "0x300",
            f"process_start_time_seconds{{{OWNER}}}": f"{2 * HOUR}x300",
        },
    },
    "TwitterErrors": {"only probes fail": _requests("200", 9) | _requests("503", 60, "/healthz/ready")},
}


@pytest.fixture
def groups(renderer: Renderer) -> list[dict[str, Any]]:
    """What the chart gives Prometheus."""
    manifests = renderer.render("twitter-clone", default_values("twitter-clone"), settings=SETTINGS)
    [rule] = of_kind(manifests, "PrometheusRule")
    found: list[dict[str, Any]] = rule["spec"]["groups"]
    return found


@pytest.fixture
def alerts(groups: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_an_alert_asks_for_what_exists(alerts: dict[str, dict[str, Any]]) -> None:
    """Metrics and labels of the targets that it names, and of no other release."""
    assert {name: found for name, alert in alerts.items() if (found := metrics.problems(alert["expr"], "rel"))} == {}


def test_each_alert_has_an_entry_for_operators_and_each_entry_an_alert(alerts: dict[str, dict[str, Any]]) -> None:
    """In the same order, and the alert links to it."""
    entries = re.findall(r"(?m)^### (Twitter\w+)$", OPERATIONS.read_text())
    assert entries == list(alerts)
    for name, alert in alerts.items():
        assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert alert["labels"]["severity"] in {"critical", "warning"}


def test_alerts_fire_when_they_should_and_only_then(
    tmp_path: Path, groups: list[dict[str, Any]], alerts: dict[str, dict[str, Any]]
) -> None:
    """Each has a story in which it fires and one close to it in which it does not; promtool plays them."""
    assert list(STORIES) == list(alerts)
    tests = [
        _played(name, f"{name} {title}", series, story.at, count)
        for name, story in STORIES.items()
        for title, series, count in (
            ("fires", story.fires, 1),
            ("is calm", story.calm, 0),
            *((title, series, 0) for title, series in CALM_TOO.get(name, {}).items()),
        )
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [*tests, _said()]}))
    command = [tools.find("promtool"), "test", "rules", "tests.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _played(alert: str, title: str, series: dict[str, str], at: str, count: int) -> dict[str, Any]:
    firing = {
        "expr": f'count by (alertname) (ALERTS{{alertname="{alert}",alertstate="firing"}})',
        "eval_time": at,
        "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}] * count,
    }
    return {
        "name": title,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [firing],
    }


def _said() -> dict[str, Any]:
    """What one alert says, word for word."""
    expected = {
        "exp_labels": {"severity": "warning", "namespace": "tw", "job": "rel-read-service", "pod": "a"},
        "exp_annotations": {
            "summary": "Reader a has not caught up with the log for 1m 30s",
            "description": "It answers with an older state and says so in X-Stale-Seconds; reads with X-Min-Position "
            "get 503.",
            "runbook_url": "docs/operations.md#twitterreaderstale",
        },
    }
    return {
        "interval": "1m",
        "input_series": [{"series": f'replica_lag_seconds{{{READ},pod="a"}}', "values": "90x15"}],
        "alert_rule_test": [{"eval_time": "15m", "alertname": "TwitterReaderStale", "exp_alerts": [expected]}],
    }
