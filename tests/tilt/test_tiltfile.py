"""The Tiltfile agrees with what it names: files, Dockerfiles, charts, Makefile, and the cluster it may deploy to."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import starlark

from services.common.auth.signing_keys import parse_keys
from tests.charts.rendering import named, of_kind, pods
from tests.support.process import REPOSITORY
from tests.tilt.dockerfiles import copied_from_context, entrypoint, is_let_in, stages
from tests.tilt.evaluation import KNOWN_CONTEXT, Record, Tilt, evaluate

SERVICES = {"read-service", "write-service", "db-updater"}
PORTS = {"edge": 8080, "read-service": 8000, "write-service": 8001, "db-updater": 8002}


def _hosting(host: str) -> Record:
    return {"kind": "ConfigMap", "data": {"localRegistryHosting.v1": f'host: "{host}"\nhelp: "https://example.org"\n'}}


def _steps(image: Record, kind: str) -> list[Any]:
    return [step[kind] for step in image["live_update"] if kind in step]


def _is_within(path: str, places: list[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


# ---- where it may deploy ----


def test_a_cluster_that_tilt_knows_is_left_to_its_judgement(tilt: Tilt) -> None:
    """It is neither asked nor allowed, so a cluster that is only named like a local one is refused by Tilt."""
    assert tilt.allowed_contexts == []
    assert not any(command[0] == "kubectl" for command in tilt.commands)


@pytest.mark.parametrize("host", ["localhost:5001", "127.0.0.1:5001"])
def test_a_cluster_that_announces_a_registry_of_this_machine_is_allowed(charts: Path, host: str) -> None:
    """Tilt runs nothing on a context that is not allowed, so it is allowed before it is asked."""
    tilt = Tilt(charts, context="elsewhere", hosting=_hosting(host))
    evaluate(tilt)
    assert tilt.allowed_contexts == ["elsewhere"]
    [asked] = [command for command in tilt.commands if command[0] == "kubectl"]
    assert asked[1:4] == ["--context", "elsewhere", "get"]


@pytest.mark.parametrize(
    "hosting", [None, {"kind": "ConfigMap"}, _hosting("registry.example.org"), _hosting("localhost.example.org:5001")]
)
def test_any_other_cluster_is_refused(charts: Path, hosting: Record | None) -> None:
    """One for others announces nothing, or a registry elsewhere; a Tiltfile that fails deploys nothing."""
    tilt = Tilt(charts, context="production", hosting=hosting)
    with pytest.raises(starlark.StarlarkError, match="production is no cluster that Tilt knows as local"):
        evaluate(tilt)
    assert tilt.objects == []


# ---- settings ----


def test_settings_reach_what_they_are_about(charts: Path) -> None:
    """Namespace, network of builds, local ports; and `tilt ci` runs the smoke test."""
    given = {"namespace": "ada", "build-network": "host", "ports-after": "100"}
    tilt = Tilt(charts, given=given, ci=True)
    evaluate(tilt)
    assert {image["network"] for image in tilt.images.values()} == {"host"}
    assert {one["metadata"].get("namespace", "ada") for one in tilt.objects} == {"ada"}
    assert [one["metadata"]["name"] for one in of_kind(tilt.objects, "Namespace")] == ["ada"]
    forwards = {name: resource["port_forwards"] for name, resource in tilt.resources.items()}
    local = {name: [one["local"] for one in found] for name, found in forwards.items() if found}
    assert local == {name: [port + 100] for name, port in PORTS.items()}
    smoke = tilt.local_resources["smoke-test"]
    assert smoke["auto_init"] is True
    assert set(smoke["env"].values()) == {"http://localhost:8180"}


def test_the_published_redis_chart_is_fetched_once(charts: Path) -> None:
    """At the version that a release has, from where it has it; the next start finds it."""
    directory = "build/tilt/redis-0.34.18"
    source = "oci://ghcr.io/cloudpirates-io/helm-charts/redis"
    pull = ["helm", "pull", source, "--version", "0.34.18", "--untar", "--untardir", directory]
    build = ["charts/build", "build/tilt/charts", f"{directory}/redis"]
    for fetched in ((), (directory,)):
        tilt = Tilt(charts, given={"redis-chart": "published"}, fetched=fetched)
        evaluate(tilt)
        assert build in tilt.commands
        assert (pull in tilt.commands) == (not fetched)


def test_without_a_setting_nothing_is_fetched(tilt: Tilt) -> None:
    """The stand-in is packed into charts that were removed before."""
    assert tilt.commands == [
        ["rm", "-rf", "build/tilt/charts"],
        ["charts/build", "build/tilt/charts", "tests/fixtures/redis-chart"],
    ]


def test_a_setting_that_means_nothing_is_refused(charts: Path) -> None:
    """With what may be chosen."""
    with pytest.raises(starlark.StarlarkError, match="choose stand-in or published"):
        evaluate(Tilt(charts, given={"redis-chart": "real"}))


# ---- images ----


def test_the_four_images_are_those_that_the_charts_run(tilt: Tilt) -> None:
    """Tilt puts the image it has built in place of the name in a manifest."""
    running = {container["image"] for _, _, pod in pods(tilt.objects) for container in pod["containers"]}
    assert {image.rpartition(":")[0] for image in running} == tilt.images.keys() | {"redis"}


def test_a_build_sees_all_that_its_dockerfile_copies(tilt: Tilt) -> None:
    """Neither `only` nor .dockerignore may keep it out."""
    for name, image in tilt.images.items():
        for source in copied_from_context(REPOSITORY / image["dockerfile"]):
            found = [str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob(source)]
            assert found, f"{name}: nothing is named {source}"
            for path in found:
                assert _is_within(path, image["only"]), f"{name}: {path}"
                assert is_let_in(path), f"{name}: {path}"


def test_a_change_to_what_is_no_code_builds_the_image(tilt: Tilt) -> None:
    """Everything of the context is either replaced in the container or has it built anew; the Dockerfile, too."""
    for name, image in tilt.images.items():
        synced = [local for local, _ in _steps(image, "sync")]
        [built] = _steps(image, "fall_back_on")
        assert image["dockerfile"] in built, name
        assert set(image["only"]) - set(built) - {"LICENSE", "README.md"} == set(synced), name


@pytest.mark.parametrize("image", sorted(SERVICES))
def test_code_is_replaced_where_process_1_runs_it(tilt: Tilt, image: str) -> None:
    """In the volume at /tmp, under the path it has in the repository; then the process that runs it is told."""
    asked = tilt.images[image]
    stage = stages(REPOSITORY / asked["dockerfile"])[asked["target"]]
    _, reloader, module, _, copy = entrypoint(stage)
    [built] = _steps(asked, "fall_back_on")
    code = [path for path in asked["only"] if path.startswith("services") and path not in built]
    assert _steps(asked, "sync") == [[path, f"{copy}/{path}"] for path in code]
    assert f"{module.replace('.', '/')}" in asked["only"]
    assert ("COPY", f"tilt/reload.py {os.path.dirname(reloader)}/") in stage  # noqa: PTH120 - a path in the image
    assert _steps(asked, "run") == ["kill -HUP 1"]


def test_the_edges_configuration_is_replaced_where_nginx_reads_it(tilt: Tilt) -> None:
    """And nginx is told by its own name of it."""
    asked = tilt.images["edge"]
    *_, command = entrypoint(stages(REPOSITORY / asked["dockerfile"])[asked["target"]])
    [[_, remote]] = _steps(asked, "sync")
    [reload] = _steps(asked, "run")
    assert command.endswith(f"nginx -e stderr -c {remote}")
    assert reload == f"nginx -e stderr -c {remote} -s reload"


def test_what_is_published_is_not_the_stage_for_development(tilt: Tilt) -> None:
    """The last stage adds nothing to the service."""
    for image in tilt.images.values():
        found = stages(REPOSITORY / image["dockerfile"])
        assert list(found)[-3:] == ["service", "development", ""]
        assert found[""] == []


# ---- the release ----


def test_development_relaxes_nothing_of_a_pod(tilt: Tilt) -> None:
    """The namespace refuses what is not hardened, root file systems are read-only, what is replaced is in a volume."""
    [namespace] = of_kind(tilt.objects, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, _, pod in pods(tilt.objects):
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
    for image, asked in tilt.images.items():
        [pod] = [pod for name, _, pod in pods(tilt.objects) if name == f"dev-{image}"]
        [container] = pod["containers"]
        assert "command" not in container
        volumes = [volume["name"] for volume in pod["volumes"] if "emptyDir" in volume]
        mounts = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in volumes]
        assert all(_is_within(remote, mounts) for _, remote in _steps(asked, "sync")), image


def test_every_object_is_in_the_namespace_and_on_tilts_page(tilt: Tilt) -> None:
    """Each workload is a resource, what belongs to none is the resource `objects`, and `helm test` is nowhere."""
    workloads = {one["metadata"]["name"] for one in of_kind(tilt.objects, "Deployment", "StatefulSet")}
    assert {resource["workload"] for resource in tilt.resources.values()} - {""} == workloads
    services = {one["metadata"]["name"] for one in of_kind(tilt.objects, "Service")}
    assert {name.removesuffix("-headless") for name in services} == workloads
    others = [one for one in tilt.objects if one["kind"] not in {"Deployment", "StatefulSet", "Service"}]
    names = [f"{one['metadata']['name']}:{one['kind'].lower()}" for one in others]
    assert tilt.resources["objects"]["objects"] == names
    assert {one["metadata"].get("namespace") for one in others} == {"twitter-clone-dev", None}
    assert of_kind(tilt.objects, "Pod", "Job") == []


def test_ports_are_those_that_the_containers_listen_on(tilt: Tilt) -> None:
    """On this machine as in the pod."""
    for name, port in PORTS.items():
        [forward] = tilt.resources[name]["port_forwards"]
        assert forward == {"local": port, "container": port}
        kind = "StatefulSet" if name == "db-updater" else "Deployment"
        [container] = named(tilt.objects, kind, f"dev-{name}")["spec"]["template"]["spec"]["containers"]
        assert port in [one["containerPort"] for one in container["ports"]]


def test_each_resource_waits_for_some_that_exist_and_never_for_itself(tilt: Tilt) -> None:
    """They can be ordered, and each has a label."""
    waiting = {name: set(one["resource_deps"]) for name, one in (tilt.resources | tilt.local_resources).items()}
    started: set[str] = set()
    while ready := {name for name, needs in waiting.items() if needs <= started} - started:
        started |= ready
    assert started == waiting.keys()
    assert all(one["labels"] for one in (tilt.resources | tilt.local_resources).values())


def test_the_secret_has_every_key_that_a_pod_takes_from_it(tilt: Tilt) -> None:
    """The same at every start; and Redis is where its URL says."""
    content = named(tilt.objects, "Secret", "development")["stringData"]
    rendered = str([pod for _, _, pod in pods(tilt.objects)])
    taken = re.findall(r"'secretKeyRef': \{'key': '([^']+)', 'name': 'development'\}", rendered)
    assert set(taken) | {"auth_keys.json"} == content.keys()
    assert parse_keys(content["auth_keys.json"].encode()).signer(1) is not None
    [password, host, port] = re.fullmatch(r"redis://default:([\w-]+)@([\w-]+):(\d+)", content["uri"]).groups()  # type: ignore[union-attr]
    assert password == content["redis-password"]
    assert named(tilt.objects, "Service", host)["spec"]["ports"][0]["port"] == int(port)


# ---- tests and buttons ----


def test_only_the_smoke_test_starts_by_itself_and_only_in_ci(tilt: Tilt) -> None:
    """The others are for whoever wants them."""
    assert tilt.local_resources.keys() == {"smoke-test", "unit-tests", "e2e-tests"}
    assert not any(one["auto_init"] for one in tilt.local_resources.values())


def test_each_button_starts_its_command(tilt: Tilt) -> None:
    """One for each of the four, on the page's bar or on the resource whose log shows the output."""
    assert tilt.buttons.keys() == {"seed-data", "run-tests", "flush-cache", "new-replica"}
    for name, place in tilt.buttons.items():
        command = tilt.button_commands[name]
        assert command["ui_buttons"] == [name]
        is_on_resource = place["type"] == "Resource"
        assert command["annotations"] == ({"tilt.dev/resource": place["id"]} if is_on_resource else {})
        assert not is_on_resource or place["id"] in tilt.resources


def test_commands_are_programs_targets_and_resources_that_exist(tilt: Tilt) -> None:
    """Of tests and of buttons."""
    commands = [one["cmd"] for one in tilt.local_resources.values()]
    commands += [one["args"] for one in tilt.button_commands.values()]
    text = " ; ".join(" ".join(command) for command in commands)
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"make (?:--\w+ )?([\w-]+)", text):
        assert f"\n{target}:" in makefile, target
    for path in re.findall(r"(?:script|charts|tilt)/[\w/.-]+", text):
        assert (REPOSITORY / path).exists(), path
    assert set(re.findall(r"tilt trigger ([\w-]+)", text)) <= tilt.local_resources.keys()
    for name in ("flush-cache", "new-replica"):
        program, action, context, namespace, deployment = tilt.button_commands[name]["args"]
        assert os.access(REPOSITORY / program, os.X_OK)
        assert f"{action}()" in (REPOSITORY / program).read_text()
        assert (context, namespace) == (KNOWN_CONTEXT, "twitter-clone-dev")
        assert named(tilt.objects, "Deployment", deployment)
