"""Whether a Redis keeps what it has acknowledged, judged by its own settings. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

SETTINGS: Final = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
"""What ``judge`` looks at: ask for these with CONFIG GET."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One way to lose acknowledged writes: a stable ``code``, what is wrong and leads to what, what to do."""

    code: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        """All of it for people."""
        return f"{self.problem}; {self.remedy}"


HIDDEN: Final = Finding(
    "settings_hidden",
    "Redis does not tell its settings, so nobody knows whether it keeps acknowledged writes",
    "allow CONFIG GET to the user of REDIS_URL",
)

_NEEDED: Final = (
    ("appendonly", "yes", "aof_off", "acknowledged writes are lost when Redis stops"),
    ("appendfsync", "always", "fsync_not_always", "acknowledged writes are lost when its machine stops"),
    ("no-appendfsync-on-rewrite", "no", "fsync_pauses", "the same, while the append-only file is rewritten"),
)


def judge(settings: Mapping[str, str] | None) -> Sequence[Finding]:
    """What may lose writes under these ``SETTINGS``, by name; None where Redis does not tell them."""
    if settings is None:
        return [HIDDEN]
    findings = [
        Finding(
            code, f"{name} is {settings[name]}: {consequence}", f"run CONFIG SET {name} {needed}, then CONFIG REWRITE"
        )
        for name, needed, code, consequence in _NEEDED
        if settings[name] != needed
    ]
    policy = settings["maxmemory-policy"]
    if policy.startswith("allkeys-"):
        problem = f"maxmemory-policy is {policy}: Redis evicts the log itself when its memory is full"
        findings.append(
            Finding("log_evictable", problem, "run CONFIG SET maxmemory-policy volatile-lru, then CONFIG REWRITE")
        )
    return findings
