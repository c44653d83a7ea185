"""The metrics that the services really have, to hold queries against."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from pydantic import SecretStr

from services.db_updater.app import create_app as create_owner
from services.db_updater.settings import OwnerSettings
from services.read.app import create_app as create_read
from services.read.settings import ReadSettings
from services.write.app import create_app as create_write
from services.write.settings import WriteSettings

TARGET_LABELS: Final = {"namespace", "job", "pod", "instance"}
"""What Prometheus adds to each sample, with a ServiceMonitor."""

_SUFFIXES: Final = {"counter": ("_total",), "info": ("_info",), "histogram": ("_bucket", "_sum", "_count")}
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][\w:]*)\{((?:[^}\"]|\"[^\"]*\")*)\}(?:\[[^]]*\])?")
_MATCHER: Final = re.compile(r"(\w+)\s*(=~|!~|!=|=)\s*\"([^\"]*)\"")
_GROUPING: Final = re.compile(r"\bby\s*\(([^)]*)\)")
_WORD: Final = re.compile(r"[a-zA-Z_]\w*")
_FUNCTIONS: Final = {
    *("absent", "clamp_min", "count", "histogram_quantile", "increase", "max", "min", "or", "rate", "sum", "time"),
    "topk",
}


@dataclass(frozen=True, slots=True)
class Selector:
    """A metric in a query: ``http_requests_total{job="x"}``."""

    metric: str
    matchers: dict[str, str]


@cache
def of_services() -> dict[str, dict[str, set[str]]]:
    """For each service's chart: the labels of each of its metrics, by the name that a query uses."""
    registries: dict[str, CollectorRegistry] = {
        "read-service": create_read(ReadSettings()).state.registry,
        "write-service": create_write(WriteSettings(email_hash_key=SecretStr("only to list metrics"))).state.registry,
        "db-updater": create_owner(OwnerSettings()).state.registry,
    }
    return {chart: dict(_metrics(registry)) for chart, registry in registries.items()}


def _metrics(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    for collector in registry._collector_to_names:
        for family in collector.collect():
            labels = {*getattr(collector, "_labelnames", ()), *getattr(family, "_labelnames", ())}
            labels |= {label for sample in family.samples for label in sample.labels}
            for name in _sample_names(family):
                yield name, labels | ({"le"} if name.endswith("_bucket") else set())


def _sample_names(family: Metric) -> list[str]:
    return [family.name + suffix for suffix in _SUFFIXES.get(family.type, ("",))]


def selectors(query: str) -> list[Selector]:
    """The metrics that a query asks for."""
    return [
        Selector(found[1], {label: value for label, _, value in _MATCHER.findall(found[2])})
        for found in _SELECTOR.finditer(query)
    ]


def problems(query: str, release: str) -> list[str]:
    """What a query asks for that the targets it names do not have, and what it asks of more than this release."""
    found = []
    for selector in selectors(query):
        asked = _asked(selector, release)
        if not asked:
            found.append(f"{selector.metric} is asked of nobody in this release")
        for chart in asked:
            labels = of_services()[chart].get(selector.metric)
            if selector.metric == "up":
                labels = set()
            if labels is None:
                found.append(f"{chart} has no {selector.metric}")
            else:
                wrong = (set(selector.matchers) | _grouped(query)) - labels - TARGET_LABELS
                found += [f"{selector.metric} of {chart} has no label {label}" for label in sorted(wrong)]
        if "namespace" not in selector.matchers:
            found.append(f"{selector.metric} without a namespace would be of every release")
    words = set(_WORD.findall(_GROUPING.sub("", _SELECTOR.sub("", query)))) - _FUNCTIONS
    return found + [f"{word} is no function" for word in sorted(words)]


def _asked(selector: Selector, release: str) -> list[str]:
    """The charts whose targets a selector means."""
    job = selector.matchers.get("job", "")
    return [chart for chart in of_services() if re.fullmatch(job, f"{release}-{chart}")]


def _grouped(query: str) -> set[str]:
    return {label.strip() for group in _GROUPING.findall(query) for label in group.split(",")}
