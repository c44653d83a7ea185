"""Pod Security Standard "restricted" and what this project adds to it, for every pod of every rendered case."""

from __future__ import annotations

from typing import Any

import pytest

from tests.charts.rendering import CI_CASES, Case, Manifest, Renderer, of_kind, pods


@pytest.fixture(params=CI_CASES, ids=str)
def manifests(request: pytest.FixtureRequest, renderer: Renderer) -> list[Manifest]:
    """The objects of one case."""
    case: Case = request.param
    return renderer.render(case.chart, case.values)


def test_no_pod_asks_for_more_than_restricted_allows(manifests: list[Manifest]) -> None:
    """Not root, no escalation, no capabilities, the runtime's seccomp profile, nothing of the host."""
    for name, _, spec in pods(manifests):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & set(spec), name
        for container in _containers(spec):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert "privileged" not in own, name
        assert {kind for volume in spec.get("volumes", ()) for kind in volume if kind != "name"} <= {
            "configMap",
            "emptyDir",
            "persistentVolumeClaim",
            "secret",
        }, name


def test_every_root_file_system_is_read_only_and_every_scratch_directory_is_bounded(manifests: list[Manifest]) -> None:
    """A pod can fill neither its node nor its image."""
    for name, _, spec in pods(manifests):
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in _containers(spec)), name
        for volume in spec.get("volumes", ()):
            is_bounded = "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"]
            # The Redis chart bounds none. Of the cache, Redis writes nothing to it.
            assert is_bounded or name == "rel-cache", (name, volume)


def test_no_pod_gets_a_token_of_the_api_server(manifests: list[Manifest]) -> None:
    """None of ours talks to Kubernetes."""
    for name, _, spec in pods(manifests):
        assert spec["automountServiceAccountToken"] is False, name
    for account in of_kind(manifests, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert of_kind(manifests, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding") == []


def test_every_container_has_requests_a_memory_limit_and_a_pinned_image(manifests: list[Manifest]) -> None:
    """So that it fits under a ResourceQuota, and means the same tomorrow."""
    for name, _, spec in pods(manifests):
        for container in _containers(spec):
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
            assert set(container["resources"]["limits"]) == {"memory"}, name
            _, _, tag = container["image"].rpartition(":")
            assert tag not in {"latest", container["image"]}, name


def test_no_secret_is_written_into_anything_but_a_secret(manifests: list[Manifest]) -> None:
    """Passwords and keys reach a pod by reference only."""
    for name, _, spec in pods(manifests):
        for container in _containers(spec):
            for variable in container.get("env", ()):
                if variable["name"] in {"REDIS_URL", "EMAIL_HASH_KEY", "REDISCLI_AUTH"}:
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}, name
    for config_map in of_kind(manifests, "ConfigMap"):
        assert not {"REDIS_URL", "EMAIL_HASH_KEY"} & set(config_map["data"])


def _containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", ()), *spec["containers"]]
