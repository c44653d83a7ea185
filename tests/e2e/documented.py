"""Commands as the documentation has them, run as they are written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path

from tests.e2e.release import Release, kubectl
from tests.support.process import REPOSITORY


def blocks(page: str, heading: str) -> list[str]:
    """The commands under a heading of a page in docs, a block each."""
    text = (REPOSITORY / "docs" / page).read_text()
    _, _, rest = text.partition(f"\n## {heading}\n")
    section, _, _ = rest.partition("\n## ")
    return [textwrap.dedent(block) for block in re.findall(r"```bash\n(.*?)```", section, re.DOTALL)]


def run(block: str, release: Release, directory: Path) -> str:
    """Run a block for a release instead of `tw`, from where its charts are, in its namespace; what it prints."""
    configuration = directory / "kubeconfig"
    shutil.copyfile(os.environ["KUBECONFIG"], configuration)
    kubectl("config", f"--kubeconfig={configuration}", "set-context", "--current", f"--namespace={release.namespace}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", re.sub(r"\btw\b", release.name, block)],
        cwd=release.charts.parent,
        env={**os.environ, "KUBECONFIG": str(configuration)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}\n{release.describe()}"
    return done.stdout
