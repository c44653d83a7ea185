"""What the attacks have in common: the real edge in front of real services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.charts import tools
from tests.charts.edge import Edge, Service
from tests.support.guarded import Guarded
from tests.support.ports import HOST


@dataclass(frozen=True, slots=True)
class Fronted:
    """A system and the edge in front of it."""

    system: Guarded
    edge: Edge

    @property
    def ports(self) -> dict[str, int]:
        """The doors by name."""
        return {"read": self.system.readers[0].port, "write": self.system.writers[0].port, "edge": self.edge.port}

    def errors_logged(self) -> list[str]:
        """What no attack may cause: a line of a service about a bug, an answer that is a 5xx of ours."""
        services = (*self.system.readers, *self.system.writers)
        lines = [line for service in services for line in service.log.splitlines()]
        found = [line for line in lines if '"level": "error"' in line or '"level": "critical"' in line]
        metrics = [line for service in services for line in service.metrics().splitlines()]
        return found + [line for line in metrics if line.startswith("http_requests_total") and 'status="500"' in line]


@contextmanager
def edge_before(system: Guarded, nginx: str, directory: Path) -> Iterator[Edge]:
    """The edge in front of the first reader and the first writer; it trusts no proxy."""
    read, write = (Service(port=service.port) for service in (system.readers[0], system.writers[0]))
    edge = Edge(nginx, directory / "edge", read, write)
    try:
        edge.start()
        edge.wait_ready()
        yield edge
    finally:
        edge.http.close()
        edge.close()


@pytest.fixture(scope="session")
def nginx() -> str:
    """The program; without it there is no edge to attack."""
    return tools.find("nginx")


@pytest.fixture(scope="session")
def fronted(nginx: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronted]:
    """A system that takes writes without tokens, behind the edge, which it trusts to say who the client is."""
    directory = tmp_path_factory.mktemp("fronted")
    with (
        Guarded(directory, is_required=False, environment={"TRUSTED_PROXIES": HOST}) as system,
        edge_before(system, nginx, directory) as edge,
    ):
        system.wait_until_applied(system.cast[2])  # made here, not in the middle of a test that watches the log
        yield Fronted(system, edge)
