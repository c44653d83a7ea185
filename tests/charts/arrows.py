"""The arrows of the design: who may talk to whom, by the name of the chart and the port; nobody else may."""

from __future__ import annotations

from typing import Final

ARROWS: Final = {
    ("anybody", "edge", 8080),
    ("edge", "read-service", 8000),
    ("edge", "write-service", 8001),
    ("write-service", "read-service", 8000),
    ("read-service", "db-updater", 8002),
    ("read-service", "redis", 6379),
    ("write-service", "redis", 6379),
    ("db-updater", "redis", 6379),
}
METRICS_PORTS: Final = {"read-service": 9100, "write-service": 9101, "db-updater": 9102}
