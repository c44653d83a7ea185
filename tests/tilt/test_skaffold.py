"""skaffold.yaml agrees with what it names: files, stages, charts and their values, the Services that charts make."""

from __future__ import annotations

import re
import subprocess
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.charts import tools
from tests.charts.rendering import Manifest, of_kind, pods
from tests.support.process import REPOSITORY
from tests.tilt.dockerfiles import copied_from_context, entrypoint, is_let_in, stages
from tests.tilt.skaffold_model import Release, read

FILE = REPOSITORY / "skaffold.yaml"
PROFILES = ("umbrella", "ci", "host-network")
COMBINATIONS = list(chain.from_iterable(combinations(PROFILES, size) for size in range(len(PROFILES) + 1)))
SERVICES = {"read-service", "write-service", "db-updater", "edge"}


def _filled(template: str) -> str:
    """The template of a value as Skaffold fills it in."""
    return re.sub(
        r"\{\{\.IMAGE_(\w+?)_([a-z_]+)\}\}", lambda found: f"{found[1]}:{found[2].replace('_', '-')}", template
    )


def _rendered(release: Release, charts: Path, directory: Path) -> list[Manifest]:
    """What helm installs for a release; what it would look up in the cluster is given by the chart's own tests."""
    name = Path(release.chart_path).name
    chart = charts / name if (charts / name).exists() else REPOSITORY / release.chart_path
    needs = REPOSITORY / "charts" / name / "ci" / "default-values.yaml"
    overrides = directory / "overrides.yaml"
    overrides.write_text(yaml.safe_dump(release.overrides))
    files = [*([needs] if needs.exists() else []), *(REPOSITORY / path for path in release.values_files), overrides]
    command = [tools.find("helm"), "template", release.name, str(chart), *(f"--values={file}" for file in files)]
    command += [f"--set={key}={_filled(template)}" for key, template in release.set_value_templates.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


@pytest.mark.parametrize("profiles", COMBINATIONS, ids=lambda profiles: "+".join(profiles) or "none")
def test_every_combination_of_profiles_is_valid(profiles: tuple[str, ...]) -> None:
    """The model refuses keys that it does not know and files that are not there; each patch finds its place."""
    config = read(FILE, *profiles)
    services = {one.image: one for one in config.build.artifacts if one.image != "smoke-test"}
    assert services.keys() == SERVICES
    for artifact in config.build.artifacts:
        assert artifact.docker.network == ("host" if "host-network" in profiles else "")
    for artifact in services.values():
        assert artifact.docker.target == ("" if "ci" in profiles else "development")
        assert (artifact.sync is None) == ("ci" in profiles)


@pytest.mark.parametrize(
    ("there", "instead"),
    [("chartPath: charts/edge", "chartPath: charts/egde"), ("dependsOn: [owner]", "dependson: [owner]")],
)
def test_the_model_refuses_what_skaffold_would(tmp_path: Path, there: str, instead: str) -> None:
    """A path that is not there, a key that nobody knows."""
    broken = tmp_path / "skaffold.yaml"
    broken.write_text(FILE.read_text().replace(there, instead))
    with pytest.raises(ValidationError):
        read(broken)


def test_every_build_sees_all_that_its_dockerfile_copies() -> None:
    """A Dockerfile is looked for in the context: the repository, but for what .dockerignore keeps out."""
    for artifact in read(FILE).build.artifacts:
        assert artifact.context == ".", artifact.image
        for source in copied_from_context(REPOSITORY / artifact.docker.dockerfile):
            found = [str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob(source)]
            assert found, f"{artifact.image}: nothing is named {source}"
            assert all(is_let_in(path) for path in found), f"{artifact.image}: {source}"


def test_changed_files_go_where_process_1_runs_them() -> None:
    """Into the volume at /tmp; what an image has of services/ is code, a page, or has it built anew."""
    for artifact in read(FILE).build.artifacts:
        if artifact.sync is None:
            continue
        dockerfile = REPOSITORY / artifact.docker.dockerfile
        *_, last = entrypoint(stages(dockerfile)[artifact.docker.target])
        targets = {rule.dest for rule in artifact.sync.manual}
        assert [last] == list(targets) if artifact.image != "edge" else "-c /tmp/edge/nginx.conf" in last
        sources = [path for source in copied_from_context(dockerfile) for path in REPOSITORY.glob(source)]
        matched = {path for rule in artifact.sync.manual for path in REPOSITORY.glob(rule.src)}
        code = {path for source in sources for path in (source.rglob("*") if source.is_dir() else [source])}
        assert code & matched, artifact.image
        built = REPOSITORY / "services" / "cli"  # the operator's command runs the image's code
        left = {path for path in code - matched if path.is_file() and not path.is_relative_to(built)}
        left = {path for path in left if path.is_relative_to(REPOSITORY / "services")}
        assert {path.suffix for path in left} <= {".pyc", ".md", "", ".conf"}, artifact.image


@pytest.mark.parametrize("profiles", [(), ("umbrella",)], ids=["charts", "umbrella"])
def test_releases_render_with_the_images_and_find_each_other(
    profiles: tuple[str, ...], charts: Path, tmp_path: Path
) -> None:
    """Every chart's schema accepts the values; every address is of a Service; Redis' Secret is its chart's."""
    config = read(FILE, *profiles)
    releases = config.deploy.helm.releases
    objects = {release.name: _rendered(release, charts, tmp_path) for release in releases}
    everything = [one for found in objects.values() for one in found]
    running = {container["image"] for _, _, pod in pods(everything) for container in pod["containers"]}
    assert {f"REPO:{name}:TAG:{name}@DIGEST:{name}" for name in SERVICES} <= running
    services = {
        one["metadata"]["name"]: {port["port"] for port in one["spec"]["ports"]}
        for one in of_kind(everything, "Service")
    }
    [forward] = config.port_forward
    assert forward.port in services[forward.resource_name]
    [verify] = config.verify
    for value in [one.value for one in verify.container.env] + _addresses(releases):
        host, _, port = value.removeprefix("http://").partition(":")
        assert int(port or 80) in services[host], value
    names = {release.name for release in releases}
    assert all(set(release.depends_on) <= names for release in releases)
    namespaces = {release.namespace for release in releases} | {forward.namespace}
    assert len(namespaces) == 1


def _addresses(releases: list[Release]) -> list[str]:
    """Where releases of single charts are told to find the others."""
    found: list[str] = []
    for release in releases:
        values: dict[str, Any] = release.overrides
        found += [values[key] for key in ("readService", "writeService") if key in values]
        found += [value for value in values.get("env", {}).values() if str(value).startswith("http")]
    return found


def test_the_smoke_test_is_a_hardened_job_that_network_policies_let_through(charts: Path, tmp_path: Path) -> None:
    """Its image is the one that is built for it, and its labels are those of the umbrella's test pods."""
    config = read(FILE, "umbrella")
    [verify] = config.verify
    assert verify.container.image in {artifact.image for artifact in config.build.artifacts}
    job = yaml.safe_load((REPOSITORY / verify.execution_mode.kubernetes_cluster.job_manifest_path).read_text())
    template = job["spec"]["template"]
    [container] = template["spec"]["containers"]
    assert container["name"] == verify.container.name
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    [release] = config.deploy.helm.releases
    assert job["metadata"]["namespace"] == release.namespace, "Skaffold would put it where the context points"
    policies = of_kind(_rendered(release, charts, tmp_path), "NetworkPolicy")
    [policy] = [one for one in policies if one["metadata"]["name"] == f"{release.name}-test"]
    assert policy["spec"]["podSelector"]["matchLabels"] == template["metadata"]["labels"]
