"""What the services count of themselves, for the demo's summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from services.cli.errors import UNAVAILABLE, CommandFailed

ASK_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one process: value by name and labels."""

    values: Mapping[tuple[str, frozenset[tuple[str, str]]], float] = field(default_factory=dict)

    def total(self, name: str) -> float:
        """The sum over all labels; 0 for a metric that is not there."""
        return sum(value for (found, _), value in self.values.items() if found == name)

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """The values of a metric by one of its labels."""
        return {dict(labels)[label]: value for (found, labels), value in self.values.items() if found == name}


def read_metrics(url: str) -> Samples:
    """Scrape a process. Raises CommandFailed when it does not answer."""
    try:
        text = httpx.get(url, timeout=ASK_SECONDS, trust_env=False).raise_for_status().text
    except httpx.HTTPError as error:
        raise CommandFailed(
            f"no metrics at {url} ({type(error).__name__}): is `twitter dev` up?", UNAVAILABLE
        ) from error
    return Samples(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
    )
