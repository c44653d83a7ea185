"""The ways in that need no edge, through the cluster's controllers: a tweet is posted and read."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from kubernetes import client as kubernetes
from kubernetes.client.exceptions import ApiException

from tests.e2e.load import client
from tests.e2e.release import Release
from tests.e2e.wait import eventually

READ, WRITE, BOTH = "read.e2e.test", "write.e2e.test", "both.e2e.test"
GATEWAY = {"name": "contour", "namespace": "projectcontour"}


@pytest.fixture
def enter(release: Release) -> Callable[[dict[str, Any]], None]:
    """Change the way in, for one test."""

    def change(settings: dict[str, Any]) -> None:
        release.apply("upgrade", {f"ingress.{name}": value for name, value in settings.items()})

    return change


@pytest.fixture(autouse=True, scope="module")
def the_usual_way_in(installed: Release) -> Iterator[None]:
    """Comes back after these tests."""
    yield
    installed.apply("upgrade")


def test_a_host_for_each_service(enter: Callable[[dict[str, Any]], None], url: str) -> None:
    """Reads at one, writes at the other."""
    enter({"mode": "hosts", "hosts": {"read": READ, "write": WRITE}})
    _post_and_read(url, read_host=READ, write_host=WRITE)


def test_a_route_of_the_gateway_api(enter: Callable[[dict[str, Any]], None], url: str) -> None:
    """One host; the method decides, and /auth goes to the write service."""
    if not _has_gateway():
        pytest.skip(f"no Gateway {GATEWAY['namespace']}/{GATEWAY['name']} on this cluster")
    enter({"mode": "httpRoute", "host": BOTH, "gateway": GATEWAY})
    user = _post_and_read(url, read_host=BOTH, write_host=BOTH)
    with client(url) as http:
        renewed = http.post("/auth/refresh", json={"refresh_token": user["refresh_token"]}, headers={"Host": BOTH})
    assert renewed.status_code == httpx.codes.OK, renewed.text


def _post_and_read(url: str, *, read_host: str, write_host: str) -> dict[str, Any]:
    """Become somebody, post and read it back; the controllers may need a moment to know the hosts."""
    with client(url) as http:
        for path, host in (("/users/1", read_host), ("/tweets", write_host)):
            eventually(lambda: _code(http.get(path, headers={"Host": host})), 60, lambda: f"no route for {host}")  # noqa: B023
        name = f"way_{secrets.token_hex(4)}"
        user = http.post(
            "/users", json={"username": name, "email": f"{name}@example.com"}, headers={"Host": write_host}
        ).json()
        token = {"Authorization": f"Bearer {user['access_token']}"}
        posted = http.post("/tweets", json={"content": "this way"}, headers={"Host": write_host, **token})
        assert posted.status_code == httpx.codes.CREATED, posted.text
        tweet = posted.json()["id"]
        read = http.get(f"/tweets/{tweet}", headers={"Host": read_host, "X-Min-Position": str(tweet)})
        assert (read.status_code, read.json()["content"]) == (200, "this way")
    return dict(user)


def _code(answer: httpx.Response) -> str | None:
    """The code of an error of ours; a controller's own has none."""
    is_ours = answer.headers.get("Content-Type", "").startswith("application/json")
    return str(answer.json().get("code", answer.status_code)) if is_ours else None


def _has_gateway() -> bool:
    gateways: Any = kubernetes.CustomObjectsApi()
    try:
        gateways.get_namespaced_custom_object(
            "gateway.networking.k8s.io", "v1", GATEWAY["namespace"], "gateways", GATEWAY["name"]
        )
    except ApiException as error:
        if error.status != 404:
            raise
        return False
    return True
