"""An installation answers through the Ingress."""

from __future__ import annotations

import os
import subprocess

from tests.e2e.load import client
from tests.e2e.release import WORKLOADS, Release
from tests.e2e.wait import eventually
from tests.support.process import REPOSITORY


def test_the_tour_passes_through_the_ingress(release: Release, url: str) -> None:
    """One address for reads and writes, with tokens."""
    environment = {"PATH": os.environ["PATH"], "READ_URL": url, "WRITE_URL": url}
    tour = REPOSITORY / "script" / "test_services.sh"
    done = subprocess.run([tour], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{release.describe()}"
    assert "it came with a token" in done.stdout


def test_writing_needs_a_token(release: Release, url: str) -> None:
    """AUTH_REQUIRED is the charts' default."""
    with client(url) as http:
        refused = http.post("/tweets", json={"content": "whose?", "user_id": 1})
    assert (refused.status_code, refused.json()["code"]) == (401, "token_missing"), release.namespace


def test_helm_test_passes(release: Release) -> None:
    """Each service answers, and a tweet that is posted can be read."""
    output = release.helm("test", release.name)
    assert output.count("Phase:          Succeeded") == len(WORKLOADS) + 1, output


def test_what_was_written_is_there_after_uninstall_and_reinstall(release: Release, url: str) -> None:
    """The volumes stay, and so do the keys of tokens: a client does not even have to log in again."""
    with client(url) as http:
        user = http.post("/users", json={"username": "stays", "email": "stays@example.com"}).json()
        http.headers["Authorization"] = f"Bearer {user['access_token']}"
        tweet = http.post("/tweets", json={"content": "still here?"}).json()
        release.helm("uninstall", release.name)
        # Pods that still stop would be found by the Services of the next installation.
        eventually(lambda: release.core.list_namespaced_pod(release.namespace).items == [], 120, release.describe)
        volumes = release.core.list_namespaced_persistent_volume_claim(release.namespace).items
        assert {one.metadata.name for one in volumes} == {
            f"data-{release.name}-db-updater-0",
            f"data-{release.name}-redis-0",
            f"{release.name}-db-updater-backups",
        }

        release.apply("install")
        found = http.get(f"/tweets/{tweet['id']}", headers={"X-Min-Position": str(tweet["id"])})
        assert (found.status_code, found.json()["content"]) == (200, "still here?")
        assert http.post("/tweets", json={"content": "yes"}).status_code == 201
        assert http.post("/users", json={"username": "STAYS", "email": "other@example.com"}).status_code == 409


def test_secrets_stay_the_same_over_an_upgrade(release: Release) -> None:
    """Made at the first install, then looked up."""

    def content() -> dict[str, dict[str, str]]:
        secrets = release.core.list_namespaced_secret(release.namespace).items
        return {one.metadata.name: one.data for one in secrets if not one.metadata.name.startswith("sh.helm")}

    before = content()
    assert set(before) == {f"{release.name}-{name}" for name in ("auth-keys", "redis", "write-service")}
    release.apply("upgrade")
    assert content() == before
