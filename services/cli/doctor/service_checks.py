"""Checks of the services at their ports."""

from __future__ import annotations

from typing import Final

import httpx

from services.cli.doctor.finding import Finding, action, fine

ASK_SECONDS: Final = 2.0


def check_service(name: str, url: str, variable: str) -> Finding:
    """Whether a service answers, and is ready."""
    try:
        answer = httpx.get(f"{url}/healthz/ready", timeout=ASK_SECONDS, trust_env=False)
    except httpx.HTTPError as error:
        remedy = f"start it, or set {variable} to where it is"
        return action(name, f"nothing answers at {url} ({type(error).__name__})", remedy)
    if answer.status_code != httpx.codes.OK:
        return action(name, f"{url} is not ready: {answer.text.strip()[:200]}", "read its log: the reason is there")
    return fine(name, f"{url} is ready")
