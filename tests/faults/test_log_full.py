"""A Redis without memory for more: reads go on, writes are told so, nothing that is needed goes, then all is well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from services.common import keys
from services.common.log.client import EventLog
from tests.support.redis_server import RedisServer
from tests.support.system import System
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(150)

BUDGET_BYTES = 200_000


def kept_without_ttl(server: RedisServer) -> dict[bytes, Any]:
    """Everything that correctness needs, with its content: names, e-mails, credentials, answers, epoch, fence."""
    prefixes = (keys.NAME_PREFIX, keys.EMAIL_PREFIX, keys.CREDENTIAL_PREFIX, keys.IDEMPOTENCY_PREFIX)
    with server.client() as redis:
        found = [key for prefix in prefixes for key in redis.keys(f"{prefix}*")]
        kept = {key: redis.dump(key) for key in found}
        fields = ("epoch", "fence", "head", "version")
        return {**kept, b"meta": redis.hmget(keys.META, fields), b"entries": redis.xrange(keys.STREAM)}


def assert_refused(answer: httpx.Response) -> None:
    """503 log_full, and when to come again."""
    assert (answer.status_code, answer.json()["code"]) == (503, "log_full")
    assert int(answer.headers["Retry-After"]) >= 1


def gauge(system: System, name: str) -> float:
    """A gauge of the first writer."""
    (line,) = [line for line in system.writers[0].metrics().splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def test_redis_is_full(fresh_system: System) -> None:
    """All that may be evicted is, and nothing else; an owner that restarts meanwhile works; room lets writes go on."""
    system = fresh_system
    ada, bob = (system.create_user(name).json()["id"] for name in ("ada", "bob"))
    headers = {"Idempotency-Key": "a-key"}
    tweet = system.write.post("/tweets", json={"content": "hello", "user_id": ada}, headers=headers).json()["id"]
    system.wait_until_applied(tweet)
    before = kept_without_ttl(system.redis)
    assert len(before) == 2 + 2 + 2 + 2 + 2
    system.redis.fill()

    for path, body in [
        ("/users", {"username": "eve", "email": "eve@example.org"}),
        ("/tweets", {"content": "more", "user_id": ada}),
        (f"/tweets/{tweet}/like", {"user_id": bob}),
        (f"/users/{ada}/follow", {"user_id": bob}),
    ]:
        assert_refused(system.write.post(path, json=body))
    assert_refused(system.write.request("DELETE", f"/tweets/{tweet}", json={"user_id": ada}))
    taken = system.write.post("/users", json={"username": "ADA", "email": "other@example.org"})
    assert (taken.status_code, taken.json()["code"]) == (409, "username_taken")
    assert system.read.get(f"/tweets/{tweet}").json()["content"] == "hello"
    assert [each["id"] for each in system.read.get(f"/users/{ada}/tweets").json()] == [tweet]
    assert system.writers[0].is_ready
    assert kept_without_ttl(system.redis) == before

    system.owner.restart()  # it takes ownership, follows and may trim: that is what makes room
    system.redis.make_room()
    answer = eventually(lambda: _unless_refused(system.write.post(f"/tweets/{tweet}/like", json={"user_id": bob})))
    assert answer is not None
    system.wait_until_applied(int(answer.headers["X-Log-Position"]))
    assert system.read.get(f"/tweets/{tweet}").json()["likes"] == 1


def test_the_log_has_spent_its_budget(tmp_path: Path) -> None:
    """Past 70 % of LOG_BYTES_MAX; when the owner has trimmed, writes go on, and no process was restarted."""
    settings = {"LOG_BYTES_MAX": str(BUDGET_BYTES), "LOG_RETENTION_SECONDS": "3600"}
    with System(tmp_path, environment=settings) as system:
        ada = system.create_user("ada").json()["id"]
        body = {"content": "x" * 280, "user_id": ada}
        first = system.write.post("/tweets", json=body, headers={"Idempotency-Key": "a-key"})
        refused = eventually(lambda: _if_refused(system.write.post("/tweets", json=body)))
        assert refused is not None
        assert_refused(refused)
        log = EventLog(system.redis.url)
        assert 0.7 * BUDGET_BYTES < log.status().memory_bytes < BUDGET_BYTES
        assert (gauge(system, "log_full"), gauge(system, "log_bytes_max")) == (1, BUDGET_BYTES)
        assert gauge(system, "log_bytes") > 0.7 * BUDGET_BYTES
        again = system.write.post("/tweets", json=body, headers={"Idempotency-Key": "a-key"})
        assert (again.status_code, again.json()) == (201, first.json())

        system.wait_until_applied(log.head())
        log.trim(log.head(), log.status().fence)
        answer = eventually(lambda: _unless_refused(system.write.post("/tweets", json=body)))
        assert answer is not None
        assert answer.status_code == 201
        assert gauge(system, "log_full") == 0
        log.close()


def _if_refused(answer: httpx.Response) -> httpx.Response | None:
    return answer if answer.status_code == 503 else None


def _unless_refused(answer: httpx.Response) -> httpx.Response | None:
    return None if answer.status_code == 503 else answer
