"""Shapes that must not render, each with the message that says value, reason and remedy."""

from __future__ import annotations

import json
import re

import pytest

from tests.charts.rendering import CHARTS, Renderer, default_values

ALL_KEYS = "redis.config.content=appendonly yes\nappendfsync always\nmaxmemory-policy allkeys-lru"

REFUSALS = [
    ("db-updater", ["replicaCount=2"], "replicaCount is 2, but exactly one process may own the database: keep 1"),
    (
        "db-updater",
        ["persistence.accessMode=ReadWriteMany"],
        "persistence.accessMode is ReadWriteMany, but SQLite on a volume that several nodes write to is damaged",
    ),
    (
        "db-updater",
        ["backup.enabled=true", "secretEnv.DATABASE_URL.name=mine", "secretEnv.DATABASE_URL.key=url"],
        "backup.enabled is true, but secretEnv.DATABASE_URL names a database that is not on the volume",
    ),
    (
        "db-updater",
        ["restore.backup=newest", "replicaCount=0"],
        'restore.backup is "newest", but backup.enabled is false, so there is no volume with backups: set it',
    ),
    (
        "db-updater",
        ["restore.backup=newest", "backup.enabled=true"],
        'restore.backup is "newest", but replicaCount is 1, and a restore needs the volume for itself',
    ),
    (
        "db-updater",
        ["terminationGracePeriodSeconds=7"],
        "terminationGracePeriodSeconds is 7, but preStopSleepSeconds and up to 8 s to finish requests need 8: raise it",
    ),
    (
        "read-service",
        ["terminationGracePeriodSeconds=17"],
        "terminationGracePeriodSeconds is 17, but preStopSleepSeconds and up to 8 s to finish requests need 18",
    ),
    (
        "edge",
        ["preStopSleepSeconds=20"],
        "terminationGracePeriodSeconds is 30, but preStopSleepSeconds and up to 12 s to finish requests need 32",
    ),
    (
        "read-service",
        ["autoscaling.minReplicas=11"],
        "autoscaling.minReplicas is 11, more than autoscaling.maxReplicas, 10: raise the second or lower the first",
    ),
    (
        "write-service",
        ["resources.requests.cpu=null"],
        "utilization is measured against resources.requests.cpu, which is empty: set it",
    ),
    ("read-service", ["redis.existingSecret="], "redis.existingSecret is empty, but there must be a log to follow"),
    (
        "write-service",
        ["emailHashKey.existingSecret="],
        'emailHashKey.existingSecret names no Secret of yours, and there is no cluster to look "rel-write-service"',
    ),
    (
        "write-service",
        ["authKeys.existingSecret="],
        "env.AUTH_REQUIRED is true, but authKeys.existingSecret is empty, so nobody could be given a token: name a",
    ),
    (
        "twitter-clone",
        ["global.authKeys.existingSecret={{ include `common.bundledAuthKeysName` . }}"],
        'global.authKeys.existingSecret names no Secret of yours, and there is no cluster to look "rel-auth-keys"',
    ),
    ("twitter-clone", ["edge.enabled=false"], "ingress.mode is edge, but edge.enabled is false: enable the edge"),
    (
        "twitter-clone",
        ["ingress.mode=hosts", "ingress.hosts.read=a.example.com"],
        'ingress.hosts.read is "a.example.com" and ingress.hosts.write is "": set two different hosts',
    ),
    ("twitter-clone", ["ingress.mode=httpRoute"], "ingress.gateway.name is empty: name the Gateway"),
    (
        "twitter-clone",
        ["alerts.enabled=true"],
        "alerts.enabled is true, but global.metrics.scrape is none, so no target would have the labels that they ask",
    ),
    (
        "twitter-clone",
        ["dashboards.enabled=true", "global.metrics.scrape=annotations"],
        "dashboards.enabled is true, but global.metrics.scrape is annotations, so no target would have the labels",
    ),
    (
        "twitter-clone",
        ["redis.enabled=false", "global.redis.existingSecret={{ include `common.bundledRedisName` . }}"],
        "redis.enabled is false, but global.redis.existingSecret still names the Secret of the bundled Redis",
    ),
    (
        "twitter-clone",
        ["redis.fullnameOverride=log", "global.redis.existingSecret={{ include `common.bundledRedisName` . }}"],
        'redis.fullnameOverride is "log", which gives the Secret with Redis\' URL another name',
    ),
    (
        "twitter-clone",
        ["global.redis.existingSecret={{ include `common.bundledRedisName` . }}"],
        'redis.auth.existingSecret is "redis-credentials", so the Redis chart makes no Secret with a URL',
    ),
    (
        "twitter-clone",
        ["redis.auth.existingSecret="],
        'redis.auth.existingSecret is empty and there is no cluster to look the Secret "rel-redis" up in',
    ),
    ("twitter-clone", ["redis.architecture=replication"], 'redis.architecture is "replication", but a failover'),
    ("twitter-clone", ["redis.auth.enabled=false"], "redis.auth.enabled is false, so there is no Secret with a URL"),
    (
        "twitter-clone",
        ["cache.enabled=true"],
        "global.cache.existingSecret is empty, so nobody would use it: set it to",
    ),
    (
        "twitter-clone",
        ["global.cache.existingSecret={{ include `common.bundledCacheName` . }}"],
        "cache.enabled is false, but global.cache.existingSecret names the Secret of the bundled one: enable it",
    ),
    (
        "twitter-clone",
        ["cache.enabled=true", "global.cache.existingSecret=x"],
        'cache.auth.existingSecret is empty and there is no cluster to look the Secret "rel-cache" up in',
    ),
    ("twitter-clone", ["redis.persistence.enabled=false"], "acknowledged writes would go with Redis' pod"),
    ("twitter-clone", ["redis.config.content=appendfsync always"], "redis.config sets appendonly to no"),
    ("twitter-clone", ["redis.extraConfig=appendfsync  everysec"], "redis.config sets appendfsync to everysec"),
    ("twitter-clone", [ALL_KEYS], "maxmemory-policy to allkeys-lru, which lets Redis evict the log itself"),
    (
        "twitter-clone",
        ['redis.extraConfig=MAXMEMORY-POLICY "allkeys-lfu"'],
        "maxmemory-policy to allkeys-lfu, which lets Redis evict the log itself: use volatile-lru",
    ),
]


@pytest.mark.parametrize(("chart", "settings", "message"), REFUSALS)
def test_an_unsafe_shape_does_not_render(renderer: Renderer, chart: str, settings: list[str], message: str) -> None:
    """And whoever asked for it learns why, and what to do."""
    assert message in renderer.refusal(chart, default_values(chart), settings=settings)


def test_a_release_name_that_is_too_long_is_refused(renderer: Renderer) -> None:
    """Kubernetes would refuse some names made of it, in the middle of an installation."""
    values = default_values("twitter-clone")
    assert renderer.template("twitter-clone", values, release="r" * 40).returncode == 0
    done = renderer.template("twitter-clone", values, release="r" * 41)
    assert "has 41 characters" in done.stderr
    assert "choose one of at most 40" in done.stderr


def test_a_release_name_that_both_redis_would_be_called_by_is_refused(renderer: Renderer) -> None:
    """Their chart leaves its own name out where the release's has it."""
    values = default_values("twitter-clone").parent / "cache-values.yaml"
    for name in ("my-redis", "my-cache"):
        assert renderer.template("twitter-clone", values, release=name).returncode == 0
    assert '"redis" and "cache" in it' in renderer.template("twitter-clone", values, release="my-redis-cache").stderr


def test_every_refusal_is_tested(renderer: Renderer) -> None:
    """Each `fail` in the templates is the answer to one of the rows above, or to a release's name."""
    values = default_values("twitter-clone")
    names = [
        renderer.template("twitter-clone", values, release="r" * 41).stderr,
        renderer.template("twitter-clone", values.parent / "cache-values.yaml", release="redis-cache").stderr,
    ]
    said = [renderer.refusal(chart, default_values(chart), settings=settings) for chart, settings, _ in REFUSALS]
    templates = "".join(path.read_text() for path in CHARTS.glob("*/templates/_*.tpl"))
    formats = [json.loads(found) for found in re.findall(r'fail (?:\(printf )?("(?:[^"\\]|\\.)*")', templates)]
    assert len(formats) == templates.count("- fail ")
    for text in formats:
        pattern = re.sub("%[qds]", ".*", re.escape(text))
        assert any(re.search(pattern, one) for one in [*names, *said]), text
