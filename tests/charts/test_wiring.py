"""That the objects of a release fit together, and fit the programs they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from services.common.settings import ServiceSettings
from services.common.web.server import DRAIN_SECONDS_MAX
from services.db_updater.settings import OwnerSettings
from services.read.settings import ReadSettings
from services.write.settings import WriteSettings
from tests.charts.rendering import (
    CHARTS,
    CI_CASES,
    Case,
    Manifest,
    Renderer,
    default_values,
    named,
    of_kind,
    pods,
    selects,
)

SETTINGS: Final[dict[str, type[ServiceSettings]]] = {
    "read-service": ReadSettings,
    "write-service": WriteSettings,
    "db-updater": OwnerSettings,
}
UMBRELLA_CASES = [case for case in CI_CASES if case.chart == "twitter-clone"]


@pytest.fixture
def release(renderer: Renderer) -> list[Manifest]:
    """The umbrella with its defaults."""
    return renderer.render("twitter-clone", default_values("twitter-clone"))


@pytest.mark.parametrize("case", CI_CASES, ids=str)
def test_selectors_find_the_pods_they_mean_and_no_others(renderer: Renderer, case: Case) -> None:
    """Each Service and budget means the pods of one workload; a selector never names a version."""
    manifests = renderer.render(case.chart, case.values)
    labels = {name: metadata["labels"] for name, metadata, _ in pods(manifests)}
    for manifest in of_kind(manifests, "Service", "PodDisruptionBudget"):
        selector = manifest["spec"]["selector"]
        selector = selector.get("matchLabels", selector)
        found = [name for name in labels if selects(selector, labels[name])]
        assert len(found) == 1, (manifest["metadata"]["name"], found)
    for manifest in of_kind(manifests, "Deployment", "StatefulSet"):
        selector = manifest["spec"]["selector"]["matchLabels"]
        assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(selector)
        assert selects(selector, manifest["spec"]["template"]["metadata"]["labels"])


@pytest.mark.parametrize("case", CI_CASES, ids=str)
def test_named_ports_exist(renderer: Renderer, case: Case) -> None:
    """Services and probes name ports of their containers."""
    manifests = renderer.render(case.chart, case.values)
    for service in of_kind(manifests, "Service"):
        [spec] = [
            spec for _, metadata, spec in pods(manifests) if selects(service["spec"]["selector"], metadata["labels"])
        ]
        names = {port["name"] for container in spec["containers"] for port in container["ports"]}
        targets = {port["targetPort"] for port in service["spec"]["ports"]}
        has_exporter = service["metadata"]["labels"].get("app.kubernetes.io/component") == "metrics"
        assert targets <= names or has_exporter, service["metadata"]["name"]
    for name, _, spec in pods(manifests):
        for container in spec["containers"]:
            names = {port["name"] for port in container.get("ports", ())}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                get = container.get(kind, {}).get("httpGet")
                assert get is None or get["port"] in names, name


@pytest.mark.parametrize("chart", SETTINGS)
def test_a_service_is_told_only_what_its_settings_know(release: list[Manifest], chart: str) -> None:
    """Each variable is a field of the settings class, and the values are ones it accepts."""
    variables: dict[str, str] = dict(named(release, "ConfigMap", f"rel-{chart}")["data"])
    [container] = _container_of(release, chart)
    for variable in container["env"]:
        variables[variable["name"]] = variable.get("value", "redis://:0123456789abcdef@log:6379")
    settings_class = SETTINGS[chart]
    assert {name.lower() for name in variables} <= set(settings_class.model_fields)
    settings_class.model_validate({name.lower(): value for name, value in variables.items()})


@pytest.mark.parametrize("chart", SETTINGS)
def test_every_setting_can_be_set_by_a_value(renderer: Renderer, tmp_path: Path, chart: str) -> None:
    """By ``env``, by ``secretEnv``, or by what the chart wires itself. Secrets only from Secrets."""
    fields = SETTINGS[chart].model_fields
    schema = json.loads((CHARTS / chart / "values.schema.json").read_text())["properties"]
    plain, secret = set(schema["env"]["properties"]), set(schema["secretEnv"]["propertyNames"]["enum"])
    assert plain == {name for name in secret if fields[name.lower()].repr}
    own = {"REDIS_URL", "EMAIL_HASH_KEY", "AUTH_KEYS_FILE", "HOST", "PORT", "METRICS_PORT"}
    assert secret == {name.upper() for name in fields} - own

    settings = {
        "env": {name: _as_value(fields[name.lower()].default) for name in plain},
        "secretEnv": {name: {"name": "mine", "key": name.lower()} for name in secret},
    }
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(settings))
    manifests = renderer.render(chart, default_values(chart), values)
    assert plain <= set(named(manifests, "ConfigMap", f"rel-{chart}")["data"])
    [container] = _container_of(manifests, chart)
    sources = {one["name"]: one.get("valueFrom") for one in container["env"]}
    for name in secret:
        assert sources[name] == {"secretKeyRef": {"name": "mine", "key": name.lower()}}


def _as_value(default: object) -> object:
    """A setting's default as YAML has it, or as text."""
    return default if isinstance(default, bool | int | float) else str(default or "")


@pytest.mark.parametrize("chart", SETTINGS)
def test_ports_are_those_the_service_listens_on(release: list[Manifest], chart: str) -> None:
    """The charts leave PORT and METRICS_PORT to the program's defaults."""
    [container] = _container_of(release, chart)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    fields = SETTINGS[chart].model_fields
    assert ports == {"http": fields["port"].default, "metrics": fields["metrics_port"].default}
    service = named(release, "Service", f"rel-{chart}")
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]} == ports


@pytest.mark.parametrize("chart", SETTINGS)
def test_a_pod_has_time_to_pause_and_to_drain_before_it_is_killed(release: list[Manifest], chart: str) -> None:
    """The charts' 8 s are the program's."""
    assert DRAIN_SECONDS_MAX == 8
    [spec] = [spec for name, _, spec in pods(release) if name == f"rel-{chart}"]
    pause = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pause + DRAIN_SECONDS_MAX < spec["terminationGracePeriodSeconds"]


def test_a_restore_has_the_owners_settings_and_volumes(renderer: Renderer) -> None:
    """It writes where the owner will look, and reads where the owner has written its backups."""
    settings = ["backup.enabled=true", "restore.backup=newest", "replicaCount=0"]
    manifests = renderer.render("db-updater", default_values("db-updater"), settings=settings)
    [owner], [restore] = of_kind(manifests, "StatefulSet"), of_kind(manifests, "Job")
    specs = [one["spec"]["template"]["spec"] for one in (owner, restore)]
    same = ("image", "envFrom", "env", "volumeMounts", "securityContext")
    [owners], [restores] = ([{key: spec["containers"][0][key] for key in same}] for spec in specs)
    assert owners == restores
    assert specs[0]["securityContext"] == specs[1]["securityContext"]
    [template] = owner["spec"]["volumeClaimTemplates"]
    data = {"name": "data", "persistentVolumeClaim": {"claimName": f"{template['metadata']['name']}-rel-db-updater-0"}}
    assert specs[1]["volumes"] == [data, *specs[0]["volumes"]]
    [claim] = of_kind(manifests, "PersistentVolumeClaim")
    assert {"name": "backups", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}} in specs[0]["volumes"]
    told = OwnerSettings.model_validate(
        {name.lower(): value for name, value in named(manifests, "ConfigMap", "rel-db-updater")["data"].items()}
    )
    [directory] = [mount["mountPath"] for mount in owners["volumeMounts"] if mount["name"] == "backups"]
    assert (told.backup_dir, told.backup_interval_seconds, told.backup_keep) == (Path(directory), 3600, 24)
    assert restore["spec"]["template"]["spec"]["containers"][0]["command"] == [
        "twitter",
        "restore",
        "--from",
        directory,
    ]


def test_services_find_each_other(release: list[Manifest]) -> None:
    """Every address in a configuration is a Service of this release, with that port."""
    services = {
        f"{service['metadata']['name']}:{port['port']}"
        for service in of_kind(release, "Service")
        for port in service["spec"]["ports"]
    }
    owner = named(release, "ConfigMap", "rel-read-service")["data"]["OWNER_URL"]
    reader = named(release, "ConfigMap", "rel-write-service")["data"]["READ_SERVICE_URL"]
    edge = named(release, "ConfigMap", "rel-edge")["data"]
    addresses = {owner.removeprefix("http://"), reader.removeprefix("http://")}
    addresses |= {edge[name].split("server ")[1].split()[0] for name in ("read.conf", "write.conf")}
    assert addresses == {"rel-db-updater:8002", "rel-read-service:8000", "rel-write-service:8001"}
    assert addresses <= services


@pytest.mark.parametrize("name", ["tw", "redis", "my-redis-app"])
def test_the_bundled_redis_is_found_whatever_the_release_is_called(renderer: Renderer, name: str) -> None:
    """Its chart leaves `-redis` out when the release's name has it already."""
    settings = ["redis.auth.password=only-for-tests", "write-service.emailHashKey.existingSecret=key"]
    settings += ["global.authKeys.existingSecret=auth-keys"]
    manifests = renderer.render("twitter-clone", settings=settings, release=name)
    [secret] = of_kind(manifests, "Secret")
    for chart in SETTINGS:
        [container] = _container_of(manifests, chart, name)
        [reference] = [one["valueFrom"]["secretKeyRef"] for one in container["env"] if one["name"] == "REDIS_URL"]
        assert reference == {"name": secret["metadata"]["name"], "key": "uri"}
    assert set(secret["data"]) == {"redis-password", "host", "port", "username", "uri"}


def test_what_may_be_lost_goes_to_the_second_redis(renderer: Renderer) -> None:
    """Readers and writers have its URL, the owner needs none; a setting of one's own wins."""
    values = CHARTS / "twitter-clone" / "ci" / "cache-values.yaml"
    own = ["read-service.secretEnv.CACHE_URL.name=mine", "read-service.secretEnv.CACHE_URL.key=url"]
    for settings, reader in (((), {"name": "rel-cache", "key": "uri"}), (own, {"name": "mine", "key": "url"})):
        manifests = renderer.render("twitter-clone", values, settings=settings)
        told = {
            chart: [one["valueFrom"]["secretKeyRef"] for one in container["env"] if one["name"] == "CACHE_URL"]
            for chart in SETTINGS
            for container in _container_of(manifests, chart)
        }
        assert told == {
            "read-service": [reader],
            "write-service": [{"name": "rel-cache", "key": "uri"}],
            "db-updater": [],
        }
        assert "uri" in named(manifests, "Secret", "rel-cache")["data"]


def test_the_way_in_leads_to_services_that_exist(renderer: Renderer) -> None:
    """In every mode, each backend is a Service of the release with that port."""
    for case in UMBRELLA_CASES:
        manifests = renderer.render(case.chart, case.values)
        ports = {
            (service["metadata"]["name"], key)
            for service in of_kind(manifests, "Service")
            for port in service["spec"]["ports"]
            for key in (port["name"], port["port"])
        }
        for ingress in of_kind(manifests, "Ingress"):
            for rule in ingress["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    backend = path["backend"]["service"]
                    assert (backend["name"], backend["port"]["name"]) in ports
        for route in of_kind(manifests, "HTTPRoute"):
            for rule in route["spec"]["rules"]:
                for backend in rule["backendRefs"]:
                    assert (backend["name"], backend["port"]) in ports


def test_autoscaling_and_a_fixed_number_of_pods_exclude_each_other(renderer: Renderer) -> None:
    """A number in the Deployment would undo the autoscaler's at every upgrade."""
    for chart in ("read-service", "write-service"):
        directory = default_values(chart).parent
        scaled = renderer.render(chart, directory / "default-values.yaml")
        fixed = renderer.render(chart, directory / "fixed-values.yaml")
        assert "replicas" not in of_kind(scaled, "Deployment")[0]["spec"]
        assert len(of_kind(scaled, "HorizontalPodAutoscaler")) == 1
        assert of_kind(fixed, "Deployment")[0]["spec"]["replicas"] == 3
        assert of_kind(fixed, "HorizontalPodAutoscaler") == []


def test_a_changed_configuration_restarts_the_pods(renderer: Renderer) -> None:
    """The annotation changes with the ConfigMap, and with nothing else."""
    values = default_values("read-service")

    def checksum(*settings: str) -> str:
        [deployment] = of_kind(renderer.render("read-service", values, settings=settings), "Deployment")
        annotation: str = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        return annotation

    assert checksum() != checksum("env.LOG_LEVEL=debug")
    assert checksum() == checksum("image.tag=other")


@pytest.mark.parametrize("chart", ["read-service", "write-service"])
def test_the_keys_of_tokens_are_mounted_as_a_directory(release: list[Manifest], chart: str) -> None:
    """A file that is mounted by a subPath would never change, and keys are replaced while pods run."""
    [spec] = [spec for name, _, spec in pods(release) if name == f"rel-{chart}"]
    [container] = spec["containers"]
    [path] = [one["value"] for one in container["env"] if one["name"] == "AUTH_KEYS_FILE"]
    [mount] = [one for one in container["volumeMounts"] if one["name"] == "auth-keys"]
    assert mount == {"name": "auth-keys", "mountPath": path.rpartition("/")[0], "readOnly": True}
    assert {"name": "auth-keys", "secret": {"secretName": "auth-keys"}} in spec["volumes"]


def test_one_value_sets_the_registry_and_one_the_tag_of_all_our_images(renderer: Renderer) -> None:
    """The tests' pods run our images, too."""
    settings = ["global.image.registry=localhost:5001", "global.image.tag=dev"]
    manifests = renderer.render("twitter-clone", default_values("twitter-clone"), settings=settings)
    images = {container["image"] for _, _, spec in pods(manifests) for container in spec["containers"]}
    ours = {f"localhost:5001/{name}:dev" for name in ("read-service", "write-service", "db-updater", "edge")}
    assert images == ours | {"redis:8"}


def _container_of(manifests: list[Manifest], chart: str, release: str = "rel") -> list[dict[str, Any]]:
    [containers] = [spec["containers"] for name, _, spec in pods(manifests) if name == f"{release}-{chart}"]
    return list(containers)
