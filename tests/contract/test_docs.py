"""The documentation says what the code does: settings, metrics, routes, error codes, links."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import get_args

import httpx
import pytest

from services.common.auth.errors import RefusalCode
from services.common.log.append import REFUSALS
from tests.support.system import System

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
METHODS = {"get", "post", "put", "patch", "delete"}


def test_the_tables_of_settings_and_metrics_are_up_to_date() -> None:
    """They are made from the code by `make docs`."""
    subprocess.run(
        [sys.executable, ROOT / "script" / "reference", "--check"],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_every_locked_package_has_a_licence_that_is_accepted() -> None:
    """And is on the page that `make docs` makes."""
    subprocess.run([sys.executable, ROOT / "script" / "licences", "--check"], check=True)


@pytest.mark.parametrize(
    ("expression", "is_accepted"),
    [
        ("MIT", True),
        ("MIT AND PSF-2.0", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_a_licence_that_nobody_has_accepted_is_refused(expression: str, is_accepted: bool) -> None:
    """Of alternatives one is enough; of parts all must be."""
    script = runpy.run_path(str(ROOT / "script" / "licences"))
    assert script["is_accepted"](expression) is is_accepted


def test_every_route_is_on_the_api_page(running: System) -> None:
    """Whoever adds a route writes a line about it."""
    undocumented = []
    for service in (running.readers[0], running.writers[0], running.owner):
        paths = service.http.get("/openapi.json").json()["paths"]
        routes = {
            f"{method.upper()} {path}" for path, methods in paths.items() for method in methods if method in METHODS
        }
        assert len(routes) >= 3
        undocumented += [route for route in routes if f"`{route}`" not in API]
    undocumented = [route for route in undocumented if not _is_family(route)]
    assert not undocumented


def _is_family(route: str) -> bool:
    """`GET /` is documented in a sentence."""
    return route == "GET /"


def test_every_error_code_is_on_the_api_page() -> None:
    """A client cannot handle a code that it never read about."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "services").rglob("*.py"))
    codes = set(re.findall(r'(?:ClientError|problem_response)\(\s*\d{3}, "([a-z_]+)"', source))
    codes |= set(re.findall(r'^    code = "([a-z_]+)"', source, re.MULTILINE))
    codes |= set(REFUSALS) | set(get_args(RefusalCode))
    append = (ROOT / "services" / "common" / "log" / "scripts" / "append.lua").read_text(encoding="utf-8")
    codes |= set(re.findall(r"why = '(\w+)'", append)) - {"id_taken"}  # only of fixtures, which no client makes
    assert {"tweet_not_found", "outcome_unknown", "not_started", "position_not_reached"} <= codes
    internal = {"unavailable"}  # the root of the family; every member has a code of its own
    assert not {code for code in codes - internal if f"`{code}`" not in API}


def test_every_header_is_on_the_api_page() -> None:
    """Those that the code reads or writes by name."""
    packages = ("common/web", "common/auth", "read", "write", "db_updater")
    paths = [path for package in packages for path in (ROOT / "services" / package).rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    named = re.findall(r'"((?:[A-Z][A-Za-z]*-)+[A-Z][A-Za-z0-9]*|ETag|Vary|Link|Allow)"', source)
    named += re.findall(r'b"((?:[a-z]+-)+[a-z]+|etag|vary|link|ratelimit)"', source)
    of_http = {"no-cache", "no-store", "transfer-encoding"}  # two values of Cache-Control, and how bodies are sent
    headers = {name.lower() for name in named} - of_http
    assert {"x-log-position", "retry-after", "idempotency-key", "www-authenticate", "etag", "link"} <= headers
    assert not {name for name in headers if f"`{name}`" not in API.lower()}


def test_no_answer_has_a_header_that_the_api_page_lacks(running: System) -> None:
    """Of good and bad requests; what every HTTP server sends apart."""
    everybodys = {"date", "server", "connection", "transfer-encoding"}
    created = running.create_user("headers_of_answers")
    read, write = running.readers[0].http, running.writers[0].http
    answers = [created, write.post("/users", content=b"{"), write.post("/auth/revoke"), write.put("/users")]
    paths = (
        "/",
        "/users/me",
        f"/users/{created.json()['id']}",
        "/users/1/tweets?limit=0",
        "/tweets/1",
        "/healthz/ready",
    )
    answers += [read.get(path) for path in paths] + [running.owner.http.get("/internal/snapshot")]
    headers = {name.lower() for answer in answers for name in answer.headers} - everybodys
    assert len(headers) >= 8
    assert not {name for name in headers if f"`{name}`" not in API.lower()}


def test_metrics_answer_on_a_port_of_their_own(running: System) -> None:
    """And every family that a running service shows is documented."""
    documented = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    for service in (running.readers[0], running.writers[0], running.owner):
        families = set(re.findall(r"^# TYPE (\S+) ", service.metrics(), re.MULTILINE))
        families = {name for name in families if not name.endswith("_created")}
        assert "http_requests_total" in families
        assert not {name for name in families if f"`{name}`" not in documented}
        assert service.http.get("/metrics").status_code == httpx.codes.NOT_FOUND


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A page that moved takes its links along."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (page.parent / target).exists()]


def test_every_make_target_is_explained() -> None:
    """`make help` shows each of them."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    helped = set(re.findall(r"^([a-z0-9-]+):.*## \w", makefile, re.MULTILINE))
    assert phony == helped
