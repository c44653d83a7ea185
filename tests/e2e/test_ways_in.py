"""Other ways in than the usual one, through the cluster's controllers: a tweet is posted and read."""

from __future__ import annotations

import os
import secrets
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kubernetes import client as kubernetes
from kubernetes.client.exceptions import ApiException

from tests.e2e.certificates import self_signed
from tests.e2e.load import TIMEOUT_SECONDS, client
from tests.e2e.release import Release
from tests.e2e.wait import eventually

READ, WRITE, BOTH, SAFE = "read.e2e.test", "write.e2e.test", "both.e2e.test", "safe.e2e.test"
SECRET = "safe-tls"
GATEWAY = {"name": "contour", "namespace": "projectcontour"}


@pytest.fixture
def enter(release: Release) -> Callable[[dict[str, Any]], None]:
    """Change the way in, for one test."""

    def change(settings: dict[str, Any]) -> None:
        release.apply("upgrade", {f"ingress.{name}": value for name, value in settings.items()})

    return change


@pytest.fixture
def certificate(release: Release, tmp_path: Path) -> Iterator[str]:
    """The certificate of the host SAFE, in a Secret for one test."""
    key, certificate = self_signed(SAFE, tmp_path)
    content = {"type": "kubernetes.io/tls", "stringData": {"tls.key": key, "tls.crt": certificate}}
    release.core.create_namespaced_secret(release.namespace, content | {"metadata": {"name": SECRET}})
    yield certificate
    release.core.delete_namespaced_secret(SECRET, release.namespace)


@pytest.fixture(autouse=True, scope="module")
def the_usual_way_in(installed: Release) -> Iterator[None]:
    """Comes back after these tests."""
    yield
    installed.apply("upgrade")


def test_a_host_for_each_service(enter: Callable[[dict[str, Any]], None], url: str) -> None:
    """Reads at one, writes at the other."""
    enter({"mode": "hosts", "hosts": {"read": READ, "write": WRITE}})
    with client(url) as http:
        _post_and_read(http, read_host=READ, write_host=WRITE)


def test_a_host_with_a_certificate(enter: Callable[[dict[str, Any]], None], certificate: str) -> None:
    """TLS ends at the Ingress, which shows the certificate of the Secret."""
    enter({"mode": "edge", "host": SAFE, "tlsSecret": SECRET})
    with _tls_client(os.environ["E2E_TLS_URL"], certificate) as http:
        _post_and_read(http, read_host=SAFE, write_host=SAFE)


def test_a_route_of_the_gateway_api(enter: Callable[[dict[str, Any]], None], url: str) -> None:
    """One host; the method decides, and /auth goes to the write service."""
    if not _has_gateway():
        pytest.skip(f"no Gateway {GATEWAY['namespace']}/{GATEWAY['name']} on this cluster")
    enter({"mode": "httpRoute", "host": BOTH, "gateway": GATEWAY})
    with client(url) as http:
        user = _post_and_read(http, read_host=BOTH, write_host=BOTH)
        renewed = http.post("/auth/refresh", json={"refresh_token": user["refresh_token"]}, headers={"Host": BOTH})
    assert renewed.status_code == httpx.codes.OK, renewed.text


def _tls_client(url: str, certificate: str) -> httpx.Client:
    """A client that trusts this certificate alone, and asks for the one of the host that a request is for."""

    def name_the_host(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = request.headers["Host"]

    return httpx.Client(
        base_url=url,
        timeout=TIMEOUT_SECONDS,
        trust_env=False,
        verify=ssl.create_default_context(cadata=certificate),
        event_hooks={"request": [name_the_host]},
    )


def _post_and_read(http: httpx.Client, *, read_host: str, write_host: str) -> dict[str, Any]:
    """Become somebody, post and read it back; the controllers may need a moment to know the hosts."""
    for path, host in (("/users/1", read_host), ("/tweets", write_host)):
        eventually(lambda: _is_routed(http, path, host), 60, lambda: f"no route for {host}")  # noqa: B023
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


def _is_routed(http: httpx.Client, path: str, host: str) -> bool:
    """Whether the answer is one of ours: a controller's own is no JSON, and at first it may not even listen."""
    try:
        answer = http.get(path, headers={"Host": host})
    except httpx.ConnectError:
        return False
    return bool(answer.headers.get("Content-Type", "").startswith("application/json"))


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
