"""Who may talk to whom: exactly the arrows of the design, worked out from the rendered policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.charts.arrows import ARROWS
from tests.charts.rendering import Manifest, Renderer, default_values, of_kind, pods, selects

TESTS = {("test", service, port) for _, service, port in ARROWS if service != "redis"}
PORTS = (8000, 8001, 8002, 8080, 6379, 9100, 9101, 9102)


def _pod_labels(manifests: list[Manifest]) -> dict[str, dict[str, str]]:
    """Labels of one pod of each kind, and of one that does not belong to the release."""
    labels = {
        metadata["labels"]["app.kubernetes.io/name"]: metadata["labels"]
        for _, metadata, _ in pods(manifests)
        if metadata["labels"].get("app.kubernetes.io/component") not in ("test", "restore")
    }
    [smoke] = [metadata["labels"] for name, metadata, _ in pods(manifests) if name == "rel-smoke-test"]
    return {**labels, "test": smoke, "anybody": {"app": "stranger"}}


def _allows(rules: list[dict[str, Any]], direction: str, peer: dict[str, str], port: int) -> bool:
    for rule in rules:
        peers = rule.get(direction)
        is_peer = peers is None or any(
            "namespaceSelector" not in one
            and selects(one.get("podSelector", {"matchLabels": {"no": "pod"}})["matchLabels"], peer)
            for one in peers
            if "podSelector" in one
        )
        if is_peer and any(one["port"] == port for one in rule["ports"]):
            return True
    return False


def _is_allowed(policies: list[Manifest], source: dict[str, str], target: dict[str, str], port: int) -> bool:
    """Kubernetes' rule: a pod that some policy selects may do only what one of those policies allows."""
    for labels, kind, direction, peer in ((source, "Egress", "to", target), (target, "Ingress", "from", source)):
        mine = [
            policy["spec"]
            for policy in policies
            if kind in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"]["matchLabels"], labels)
        ]
        if mine and not any(_allows(spec.get(kind.lower()) or [], direction, peer, port) for spec in mine):
            return False
    return True


def _arrows(manifests: list[Manifest]) -> Iterator[tuple[str, str, int]]:
    policies, labels = of_kind(manifests, "NetworkPolicy"), _pod_labels(manifests)
    for source in labels:
        for target in labels:
            for port in PORTS:
                if target != "anybody" and _is_allowed(policies, labels[source], labels[target], port):
                    yield source, target, port


def test_the_arrows_are_those_of_the_design(renderer: Renderer) -> None:
    """And none more: not to the metrics, not from strangers, not from Redis to anybody."""
    manifests = renderer.render("twitter-clone", default_values("twitter-clone"))
    assert set(_arrows(manifests)) == ARROWS | TESTS


@pytest.mark.parametrize("mode", ["hosts", "http-route"])
def test_without_the_edge_both_services_are_the_way_in(renderer: Renderer, mode: str) -> None:
    """The ingress controller may be anywhere, so anybody reaches their ports, and nothing else."""
    values = default_values("twitter-clone").parent / f"{mode}-values.yaml"
    expected = {arrow for arrow in ARROWS | TESTS if "edge" not in arrow}
    expected |= {
        (source, service, port)
        for source in ("anybody", "test")
        for service, port in (("read-service", 8000), ("write-service", 8001))
    }
    assert set(_arrows(renderer.render("twitter-clone", values))) == expected


def test_a_restore_reaches_redis_and_nobody_reaches_it(renderer: Renderer) -> None:
    """It looks whether the log goes on from the backup."""
    settings = ["db-updater.replicaCount=0", "db-updater.backup.enabled=true", "db-updater.restore.backup=newest"]
    manifests = renderer.render("twitter-clone", default_values("twitter-clone"), settings=settings)
    [job] = of_kind(manifests, "Job")
    restore = job["spec"]["template"]["metadata"]["labels"]
    policies, labels = of_kind(manifests, "NetworkPolicy"), _pod_labels(manifests)
    reached = {(name, port) for name in labels for port in PORTS if _is_allowed(policies, restore, labels[name], port)}
    assert reached == {("redis", 6379)}
    assert not any(_is_allowed(policies, labels[name], restore, port) for name in labels for port in PORTS)


def test_only_the_monitoring_namespace_reads_metrics(renderer: Renderer) -> None:
    """One rule on each service, from that namespace, for that port."""
    manifests = renderer.render("twitter-clone", default_values("twitter-clone"))
    ports = [
        rule["ports"][0]["port"]
        for policy in of_kind(manifests, "NetworkPolicy")
        for rule in policy["spec"].get("ingress") or []
        for peer in rule.get("from", ())
        if peer == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    assert sorted(ports) == [9100, 9101, 9102]


def test_the_cache_is_reached_by_those_who_use_it(renderer: Renderer) -> None:
    """Beside the Redis with the log, and it reaches nobody."""
    values = default_values("twitter-clone").parent / "cache-values.yaml"
    cache = {("read-service", "cache", 6379), ("write-service", "cache", 6379)}
    assert set(_arrows(renderer.render("twitter-clone", values))) == ARROWS | TESTS | cache


def test_an_external_redis_is_reached_at_its_address_only(renderer: Renderer) -> None:
    """And nobody is let in to a Redis of ours, as there is none."""
    values = default_values("twitter-clone").parent / "external-redis-values.yaml"
    policies = of_kind(renderer.render("twitter-clone", values), "NetworkPolicy")
    rules = [
        rule for policy in policies for rule in policy["spec"].get("egress") or [] if rule["ports"] == [{"port": 6380}]
    ]
    assert rules == [{"to": [{"ipBlock": {"cidr": "192.0.2.10/32"}}], "ports": [{"port": 6380}]}] * 4
    assert "rel-log" not in [policy["metadata"]["name"] for policy in policies]
