"""The Tiltfile, evaluated without Tilt: its built-ins stand here, with Tilt's names and arguments.

Manifests are really rendered by helm; the charts are built once for all tests. What the Tiltfile asks of a cluster is
answered by the test. A built-in that is not here does not exist for the Tiltfile, and so no extension does.
"""

from __future__ import annotations

import posixpath
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import starlark
import yaml

from tests.charts import tools
from tests.support.process import REPOSITORY

GENERATED: Final = "build/"
CHARTS: Final = "build/tilt/charts"
KNOWN_CONTEXT: Final = "kind-any"
"""One that Tilt knows as local."""
HOME: Final = "/home/ada"
MANUAL: Final = "manual"
FIRST_LINE: Final = "# -*- mode: python -*-\n"
# What Tilt has as `config.parse` is the value `config_parse` here. This takes the place of each file's first line.
MODULES: Final = (
    "config = struct(define_string=config_define_string, parse=config_parse, tilt_subcommand=TILT_SUBCOMMAND,"
    " main_dir=MAIN_DIR); "
    "os = struct(getenv=os_getenv, environ=ENVIRON, path=struct(join=os_path_join, exists=os_path_exists)); "
    "v1alpha1 = struct(cmd=v1alpha1_cmd, ui_button=v1alpha1_ui_button, start_on_spec=v1alpha1_start_on_spec,"
    " ui_component_location=v1alpha1_ui_component_location)\n"
)

Record = dict[str, Any]


def evaluate(tilt: Tilt, name: str = "Tiltfile") -> starlark.FrozenModule:
    """Run a Tiltfile and those that it loads. Raises starlark.StarlarkError where Tilt would stop."""
    text = tilt.path(name).read_text()
    assert text.startswith(FIRST_LINE), name
    module = starlark.Module()
    module["TILT_SUBCOMMAND"], module["MAIN_DIR"] = tilt.subcommand, str(REPOSITORY)
    module["ENVIRON"], module["TRIGGER_MODE_MANUAL"] = {"HOME": HOME}, MANUAL
    for builtin in BUILTINS:
        module.add_callable(builtin, getattr(tilt, builtin))
    loader = starlark.FileLoader(lambda other: evaluate(tilt, posixpath.join(posixpath.dirname(name), other)))
    known = starlark.Globals.extended_by([starlark.LibraryExtension.StructType])
    starlark.eval(module, starlark.parse(name, MODULES + text.removeprefix(FIRST_LINE)), known, loader)
    return module.freeze()


class Tilt:
    """What Tilt is asked for, with the charts that charts/build has built.

    ``given`` are the settings of tilt_config.json, ``hosting`` is the answer about a registry, ``fetched`` is what an
    earlier start has fetched. Public methods but the first are the built-ins.
    """

    def __init__(
        self,
        charts: Path,
        *,
        given: Mapping[str, str] | None = None,
        hosting: Record | None = None,
        fetched: Sequence[str] = (),
        ci: bool = False,
        context: str = KNOWN_CONTEXT,
    ) -> None:
        self.charts = charts
        self.fetched = fetched
        self.context = context
        self.given = given or {}
        self.hosting = hosting
        self.subcommand = "ci" if ci else "up"
        self.defined: list[str] = []
        self.commands: list[Sequence[str]] = []
        self.images: dict[str, Record] = {}
        self.objects: list[Record] = []
        self.resources: dict[str, Record] = {}
        self.local_resources: dict[str, Record] = {}
        self.buttons: dict[str, Record] = {}
        self.button_commands: dict[str, Record] = {}
        self.allowed_contexts: list[str] = []

    def path(self, name: str) -> Path:
        """Where a file of the Tiltfile is. Raises FileNotFoundError for one that is not in the repository."""
        if name.startswith(CHARTS):
            return self.charts / name.removeprefix(f"{CHARTS}/")
        return (REPOSITORY / name).resolve(strict=True)

    def _existing(self, name: str) -> str:
        self.path(name)
        return name

    # ---- settings, and the machine ----

    def config_define_string(self, name: str, *, usage: str) -> None:
        assert usage, name
        self.defined.append(name)

    def config_parse(self) -> Mapping[str, str]:
        assert self.given.keys() <= set(self.defined), "Tilt refuses what nobody has defined"
        return self.given

    def ci_settings(self, *, timeout: str) -> None:
        assert timeout.endswith("m")

    def os_getenv(self, name: str, default: str) -> str:
        assert name == "KUBECONFIG"
        return default

    def os_path_join(self, *parts: str) -> str:
        return posixpath.join(*parts)

    def os_path_exists(self, path: str) -> bool:
        return path in self.fetched

    def local(self, command: Sequence[str], *, quiet: bool = False, echo_off: bool = False) -> str:
        assert quiet >= echo_off
        assert self.context in {KNOWN_CONTEXT, *self.allowed_contexts}, "Tilt refuses to run anything"
        self.commands.append(command)
        if command[0] == "kubectl" and self.hosting is not None:
            return yaml.safe_dump(self.hosting)
        return ""

    # ---- files ----

    def watch_file(self, path: str) -> None:
        assert path.startswith(GENERATED) or self._existing(path)

    def watch_settings(self, *, ignore: Sequence[str]) -> None:
        assert f"{ignore[0]}/" == GENERATED, "else each evaluation would cause the next one"

    def read_yaml(self, path: str) -> object:
        return yaml.safe_load(self.path(path).read_text())

    def decode_yaml(self, text: str) -> object:
        return yaml.safe_load(text)

    def decode_yaml_stream(self, text: str) -> list[object]:
        return [one for one in yaml.safe_load_all(text) if one is not None]

    def encode_yaml_stream(self, objects: Sequence[object]) -> str:
        return yaml.safe_dump_all(objects)

    # ---- the cluster ----

    def k8s_context(self) -> str:
        return self.context

    def allow_k8s_contexts(self, contexts: str) -> None:
        self.allowed_contexts.append(contexts)

    def helm(self, path: str, *, name: str, namespace: str, values: Sequence[str]) -> str:
        files = (f"--values={self.path(file)}" for file in values)
        return _rendered(tools.find("helm"), "template", name, str(self.path(path)), f"--namespace={namespace}", *files)

    def k8s_yaml(self, text: str) -> None:
        self.objects += yaml.safe_load_all(text)

    def k8s_resource(
        self,
        workload: str = "",
        *,
        new_name: str,
        labels: Sequence[str],
        objects: Sequence[str] = (),
        port_forwards: Sequence[Record] = (),
        resource_deps: Sequence[str] = (),
    ) -> None:
        assert bool(workload) != bool(objects)
        self.resources[new_name] = {
            "workload": workload,
            "objects": objects,
            "port_forwards": port_forwards,
            "resource_deps": resource_deps,
            "labels": labels,
        }

    def port_forward(self, local_port: int, container_port: int) -> Record:
        return {"local": local_port, "container": container_port}

    # ---- images ----

    def docker_build(
        self,
        ref: str,
        context: str,
        *,
        dockerfile: str,
        target: str,
        network: str,
        only: Sequence[str],
        live_update: Sequence[Record],
    ) -> None:
        assert self.path(context) == REPOSITORY
        steps = [next(iter(step)) for step in live_update]
        assert steps == sorted(steps, key=["fall_back_on", "sync", "run"].index), "Tilt takes them in this order"
        self.images[ref] = {
            "dockerfile": self._existing(dockerfile),
            "target": target,
            "network": network,
            "only": [self._existing(path) for path in only],
            "live_update": live_update,
        }

    def fall_back_on(self, files: Sequence[str]) -> Record:
        return {"fall_back_on": [self._existing(path) for path in files]}

    def sync(self, local_path: str, remote_path: str) -> Record:
        return {"sync": [self._existing(local_path), remote_path]}

    def run(self, cmd: str) -> Record:
        return {"run": cmd}

    # ---- what else is on Tilt's page ----

    def local_resource(
        self,
        name: str,
        cmd: Sequence[str],
        *,
        trigger_mode: str,
        auto_init: bool,
        labels: Sequence[str],
        env: Mapping[str, str],
        resource_deps: Sequence[str] = (),
    ) -> None:
        assert trigger_mode == MANUAL
        self.local_resources[name] = {
            "cmd": cmd,
            "auto_init": auto_init,
            "env": env,
            "resource_deps": resource_deps,
            "labels": labels,
        }

    def v1alpha1_ui_component_location(self, *, component_type: str, component_id: str) -> Record:
        assert component_type in {"Global", "Resource"}
        assert (component_type == "Global") == (component_id == "nav")
        return {"type": component_type, "id": component_id}

    def v1alpha1_ui_button(self, *, name: str, text: str, icon_name: str, location: Record) -> None:
        assert text
        assert icon_name
        self.buttons[name] = location

    def v1alpha1_start_on_spec(self, *, ui_buttons: Sequence[str]) -> Record:
        return {"ui_buttons": ui_buttons}

    def v1alpha1_cmd(
        self,
        *,
        name: str,
        args: Sequence[str],
        env: Sequence[str],
        dir: str,  # noqa: A002 - Tilt's name
        annotations: Mapping[str, str],
        start_on: Record,
    ) -> None:
        assert dir == str(REPOSITORY)
        self.button_commands[name] = {"args": args, "env": env, "annotations": annotations, **start_on}


@cache
def _rendered(*command: str) -> str:
    """What helm() gives: without tests, and with the namespace in every object."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    parts = [part for part in done.stdout.split("---\n") if "# Source: " in part and "/tests/" not in part]
    objects = [yaml.safe_load(part) for part in parts]
    [namespace] = [word.partition("=")[2] for word in command if word.startswith("--namespace=")]
    for one in objects:
        one["metadata"].setdefault("namespace", namespace)
    return yaml.safe_dump_all(objects)


BUILTINS: Final = [name for name in vars(Tilt) if not name.startswith("_") and name != "path"]
