"""What skaffold.yaml may say: the part of Skaffold's v4beta14 that is used here, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tests.support.process import REPOSITORY


def _exists(name: object) -> object:
    assert isinstance(name, str)
    assert name.startswith("build/") or (REPOSITORY / name).exists(), f"there is no {name}"
    return name


Existing = Annotated[str, BeforeValidator(_exists)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class _Docker(_Strict):
    dockerfile: Existing
    target: str = ""
    network: Literal["", "host"] = ""


class _SyncRule(_Strict):
    src: str
    dest: str
    strip: str = ""


class _Command(_Strict):
    command: list[str] = Field(min_length=1)


class _SyncHook(_Strict):
    container: _Command


class _SyncHooks(_Strict):
    after: list[_SyncHook]


class _Sync(_Strict):
    manual: list[_SyncRule]
    hooks: _SyncHooks


class _Artifact(_Strict):
    image: str
    context: Existing
    docker: _Docker
    sync: _Sync | None = None


class _TagPolicy(_Strict):
    input_digest: dict[str, Any] = Field(max_length=0)


class _Local(_Strict):
    use_buildkit: bool
    concurrency: int


class _Build(_Strict):
    tag_policy: _TagPolicy
    local: _Local
    artifacts: list[_Artifact]


class _HostHook(_Strict):
    host: _Command


class _DeployHooks(_Strict):
    before: list[_HostHook]


class Release(_Strict):
    """A chart that helm installs."""

    name: str
    namespace: str
    create_namespace: bool = False
    chart_path: Existing
    skip_build_dependencies: bool = False
    values_files: list[Existing] = []
    overrides: dict[str, Any]
    set_value_templates: dict[str, str] = {}
    depends_on: list[str] = []


class _Helm(_Strict):
    releases: list[Release]
    hooks: _DeployHooks | None = None


class _Deploy(_Strict):
    status_check_deadline_seconds: int = 0
    helm: _Helm


class _PortForward(_Strict):
    resource_type: Literal["service"]
    resource_name: str
    namespace: str
    port: int
    local_port: int


class _Variable(_Strict):
    name: str
    value: str


class _VerifyContainer(_Strict):
    name: str
    image: str
    env: list[_Variable]


class _KubernetesCluster(_Strict):
    job_manifest_path: Existing


class _ExecutionMode(_Strict):
    kubernetes_cluster: _KubernetesCluster


class _Verify(_Strict):
    name: str
    timeout: int
    container: _VerifyContainer
    execution_mode: _ExecutionMode


class _Patch(_Strict):
    op: Literal["add", "remove", "replace"]
    path: str
    value: str | None = None


class _Profile(_Strict):
    name: str
    deploy: _Deploy | None = None
    patches: list[_Patch]


class _Metadata(_Strict):
    name: str


class Skaffold(_Strict):
    """The whole file."""

    api_version: Literal["skaffold/v4beta14"]
    kind: Literal["Config"]
    metadata: _Metadata
    build: _Build
    deploy: _Deploy
    port_forward: list[_PortForward]
    verify: list[_Verify]
    profiles: list[_Profile] = []


def read(path: Path, *profiles: str) -> Skaffold:
    """The file with these profiles in force, in the order of the file. Raises ValueError for what Skaffold refuses."""
    raw = yaml.safe_load(path.read_text())
    known = Skaffold.model_validate(raw).profiles
    assert set(profiles) <= {profile.name for profile in known}
    merged = copy.deepcopy({key: value for key, value in raw.items() if key != "profiles"})
    for profile, content in zip(known, raw["profiles"], strict=True):
        if profile.name in profiles:
            merged |= copy.deepcopy({key: value for key, value in content.items() if key == "deploy"})
            for patch in profile.patches:
                _apply(patch, merged)
    return Skaffold.model_validate(merged)


def _apply(patch: _Patch, document: Any) -> None:
    """RFC 6902: what is replaced or removed must be there."""
    *parents, last = (int(word) if word.isdigit() else word for word in patch.path.removeprefix("/").split("/"))
    for word in parents:
        document = document[word]
    if patch.op != "add":
        assert last in document if isinstance(document, dict) else isinstance(last, int), patch.path
    if patch.op == "remove":
        del document[last]
    else:
        document[last] = patch.value
