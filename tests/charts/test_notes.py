"""What helm says after an install: what to do next, and what is unsafe in these values."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.charts.rendering import APPLICATIONS, CI_CASES, Case, Renderer, default_values, named, of_kind
from tests.charts.test_kubernetes_schema import SECRETS
from tests.support.process import REPOSITORY

AS_A_TEMPLATE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: notes}
data:
  notes: {{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}
"""
"""``helm template`` leaves notes out, and ``helm install`` of Helm 3 wants a cluster even to pretend."""

SAFE: dict[str, tuple[str, ...]] = {
    "twitter-clone": (
        "write-service.env.SIGN_INS_PER_MINUTE=5",
        "db-updater.backup.enabled=true",
        "ingress.tlsSecret=my-certificate",
        "global.cache.existingSecret=my-cache",
    ),
    "write-service": ("env.SIGN_INS_PER_MINUTE=5",),
    "db-updater": ("backup.enabled=true",),
    "read-service": (),
    "edge": (),
}
"""Values by which nothing is left to warn of."""

WARNINGS = [
    ("twitter-clone", "write-service.env.AUTH_REQUIRED=false", "UNSAFE: write-service.env.AUTH_REQUIRED is false."),
    ("twitter-clone", "write-service.env.LOG_DURABILITY=warn", "UNSAFE: write-service.env.LOG_DURABILITY is warn."),
    ("twitter-clone", "write-service.env.SIGN_INS_PER_MINUTE=0", "UNSAFE: write-service.env.SIGN_INS_PER_MINUTE is 0."),
    ("twitter-clone", "db-updater.backup.enabled=false", "UNSAFE: db-updater.backup.enabled is false."),
    ("twitter-clone", "networkPolicy.enabled=false", "UNSAFE: networkPolicy.enabled is false."),
    ("twitter-clone", "edge.trustedProxies={::/0}", "UNSAFE: edge.trustedProxies holds ::/0."),
    ("twitter-clone", "ingress.tlsSecret=", "Without ingress.tlsSecret the API is plain HTTP"),
    ("twitter-clone", "global.cache.existingSecret=", "SIGN_INS_PER_MINUTE is 5, which makes the Redis"),
    ("write-service", "env.SIGN_INS_PER_MINUTE=0", "UNSAFE: env.SIGN_INS_PER_MINUTE is 0."),
    ("write-service", "env.AUTH_REQUIRED=false", "UNSAFE: env.AUTH_REQUIRED is false."),
    ("write-service", "env.LOG_DURABILITY=warn", "UNSAFE: env.LOG_DURABILITY is warn."),
    ("db-updater", "backup.enabled=false", "UNSAFE: backup.enabled is false."),
    ("edge", "trustedProxies={0.0.0.0/0}", "UNSAFE: trustedProxies holds 0.0.0.0/0."),
]


class Notes:
    """The built charts, copied, with their notes among the objects."""

    def __init__(self, renderer: Renderer, directory: Path) -> None:
        self._renderer = renderer
        self._directory = shutil.copytree(renderer.directory, directory)
        for chart in APPLICATIONS:
            (directory / chart / "templates" / "notes.yaml").write_text(AS_A_TEMPLATE)

    def of(self, chart: str, values: Path, *settings: str) -> str:
        """The notes of one chart as release ``rel`` in the namespace ``tw``, on one line."""
        rendered = self._renderer.render(str(self._directory / chart), values, settings=settings)
        text: str = named(rendered, "ConfigMap", "notes")["data"]["notes"]
        return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def notes(renderer: Renderer, tmp_path_factory: pytest.TempPathFactory) -> Notes:
    """What each chart says."""
    return Notes(renderer, tmp_path_factory.mktemp("notes") / "built")


@pytest.mark.parametrize("case", [case for case in CI_CASES if case.chart == "twitter-clone"], ids=str)
def test_the_services_that_are_forwarded_to_exist(renderer: Renderer, notes: Notes, case: Case) -> None:
    """In each way in, and all that is asked for by curl is forwarded."""
    text = notes.of(case.chart, case.values)
    forwarded = re.findall(r"port-forward service/(\S+) (?:(\d+):)?(\d+)", text)
    services = of_kind(renderer.render(case.chart, case.values), "Service")
    served = {(service["metadata"]["name"], port["port"]) for service in services for port in service["spec"]["ports"]}
    assert {(name, int(port)) for name, _, port in forwarded} <= served
    local = {outside or inside for _, outside, inside in forwarded}
    assert set(re.findall(r"curl localhost:(\d+)/", text)) == local


def test_how_a_token_is_got_is_said_where_there_are_any(notes: Notes) -> None:
    """Without keys nobody is given a token, and the body says who writes."""
    values = {case.values.name: case.values for case in CI_CASES if case.chart == "twitter-clone"}
    with_keys = notes.of("twitter-clone", values["default-values.yaml"])
    assert "authorization: Bearer <access_token>" in with_keys
    assert "Keep copies of the Secrets auth-keys and email-hash-key" in with_keys
    without_keys = notes.of("twitter-clone", values["open-values.yaml"])
    assert "access_token" not in without_keys
    assert '"user_id": <her id>' in without_keys


@pytest.mark.parametrize("chart", APPLICATIONS)
def test_nothing_is_called_unsafe_that_is_safe(notes: Notes, chart: str) -> None:
    """Nor is there advice that was taken."""
    text = notes.of(chart, default_values(chart), *SAFE[chart])
    assert "UNSAFE" not in text
    assert "plain HTTP" not in text
    assert "the Redis with the log" not in text


def test_the_values_for_production_are_safe(notes: Notes) -> None:
    """With backups, a limit on sign-ins, TLS, and a second Redis for what may be lost."""
    text = notes.of("twitter-clone", REPOSITORY / "k8s" / "values" / "prod.yaml", *SECRETS)
    assert "UNSAFE" not in text
    assert "plain HTTP" not in text
    assert "the Redis with the log" not in text


@pytest.mark.parametrize(("chart", "setting", "warning"), WARNINGS)
def test_what_is_unsafe_is_said(notes: Notes, chart: str, setting: str, warning: str) -> None:
    """Each unsafe value by itself, in values that are safe but for it."""
    text = notes.of(chart, default_values(chart), *SAFE[chart], setting)
    assert warning in text
    assert text.count("UNSAFE") == warning.count("UNSAFE")


def test_a_database_elsewhere_is_backed_up_elsewhere(notes: Notes) -> None:
    """The chart's own backups are not for PostgreSQL."""
    database = ("secretEnv.DATABASE_URL.name=mine", "secretEnv.DATABASE_URL.key=url")
    for chart, prefix in (("twitter-clone", "db-updater."), ("db-updater", "")):
        text = notes.of(chart, default_values(chart), *(prefix + setting for setting in database))
        assert f"database of {prefix}secretEnv.DATABASE_URL and then the" in text
        assert "backup.enabled" not in text
