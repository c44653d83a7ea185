"""``twitter user``, ``twitter token``, the scripts and an import where every write needs a token."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from typer.testing import CliRunner, Result

from services.cli.main import app
from services.common.auth import add_key
from services.common.auth.signing_keys import encode_keys, parse_keys
from services.common.log.client import EventLog
from tests.support.commands import environment_of, run_script, twitter, twitter_json
from tests.support.system import System

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The keys of the services, and of the operator."""
    path = tmp_path_factory.mktemp("keys") / "auth_keys.json"
    add_key(path, int(time.time()))
    return path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, key_file: Path) -> Iterator[System]:
    """A system where every write needs a token."""
    settings = {"AUTH_KEYS_FILE": str(key_file), "AUTH_REQUIRED": "true"}
    with System(tmp_path_factory.mktemp("guarded"), environment=settings) as system:
        yield system


def new_name() -> str:
    """A username that nobody has."""
    return f"user_{uuid4().hex[:10]}"


def create(system: System, *options: str, password: str = "") -> dict[str, Any]:
    """A new account by ``twitter user create``."""
    name = new_name()
    arguments = ["user", "create", name, f"{name}@example.org", "--json", *options]
    result = CliRunner().invoke(app, arguments, env=environment_of(system), input=password)
    assert result.exit_code == 0, result.output
    created: dict[str, Any] = json.loads(result.stdout)
    return created


def tweet(system: System, token: str | None, **body: Any) -> httpx.Response:
    """POST /tweets with this token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return system.write.post("/tweets", json={"content": "hello", **body}, headers=headers)


def refusal(answer: httpx.Response) -> tuple[int, str | None]:
    """Status and code; no code where nothing was refused."""
    return answer.status_code, answer.json().get("code")


def test_an_account_is_opened_with_tokens_and_shown(guarded: System) -> None:
    """What is printed once is good; what is shown has no secret and no address."""
    ada = create(guarded, "--password-stdin", password=f"{PASSWORD}\n")
    assert tweet(guarded, ada["access_token"]).status_code == 201
    guarded.wait_until_applied(ada["id"])
    shown = twitter_json(guarded, "user", "show", ada["username"].upper())
    assert shown == twitter_json(guarded, "user", "show", f"id:{ada['id']}")
    assert (shown["id"], shown["has_password"], shown["suspended_at"]) == (ada["id"], True, None)
    assert shown["profile"]["username"] == ada["username"]
    for text in (json.dumps(shown), twitter(guarded, "user", "show", ada["username"]).output):
        assert ada["username"] in text
        assert "example.org" not in text
        assert "argon2" not in text
    taken = twitter(guarded, "user", "create", ada["username"], "other@example.org")
    assert (taken.exit_code, len(taken.stderr.splitlines())) == (1, 1)
    assert "username_taken" in taken.stderr


def test_a_suspended_account_cannot_act_until_it_is_reinstated(guarded: System) -> None:
    """At once: its token, a new log-in and a refresh are refused with a code; its tweets stay."""
    ada = create(guarded, "--password-stdin", password=f"{PASSWORD}\n")
    before = tweet(guarded, ada["access_token"])
    suspended = twitter_json(guarded, "user", "suspend", ada["username"])
    assert suspended["event"] == "user_suspended"
    with closing(EventLog(guarded.redis.url)) as log:
        head = log.head()
        login = {"username": ada["username"], "password": PASSWORD}
        headers = {"Authorization": f"Bearer {ada['access_token']}"}
        for answer in (
            tweet(guarded, ada["access_token"]),
            guarded.write.post("/auth/token", json=login),
            guarded.write.post("/auth/refresh", json={"refresh_token": ada["refresh_token"]}),
            guarded.write.post("/auth/revoke", headers=headers),
            guarded.write.patch("/users/me", json={"name": "x"}, headers=headers),
            guarded.write.delete("/users/me", headers=headers),
            guarded.write.post(f"/tweets/{before.json()['id']}/like", headers=headers),
            guarded.read.get("/users/me", headers=headers),
        ):
            assert refusal(answer) == (403, "account_suspended"), answer.request.url
        assert log.head() == head
    wrong = guarded.write.post("/auth/token", json={**login, "password": "another one"})
    assert refusal(wrong) == (401, "bad_credentials")
    guarded.wait_until_applied(suspended["position"])
    assert guarded.read.get(f"/tweets/{before.json()['id']}").status_code == 200
    assert twitter_json(guarded, "user", "show", ada["username"])["suspended_at"] is not None
    assert "is suspended" in twitter(guarded, "token", "issue", ada["username"], environment=_keys(guarded)).stderr

    twitter_json(guarded, "user", "reinstate", ada["username"])
    assert refusal(tweet(guarded, ada["access_token"])) == (401, "token_revoked")
    again = guarded.write.post("/auth/token", json=login).json()
    assert tweet(guarded, again["access_token"]).status_code == 201


def test_without_tokens_a_suspended_account_cannot_act_either(system: System) -> None:
    """Where none is needed, and the body says who acts."""
    name = new_name()
    user_id = system.create_user(name).json()["id"]
    other_id = system.create_user(new_name()).json()["id"]
    tweet_id = system.create_tweet(user_id, "before").json()["id"]
    twitter_json(system, "user", "suspend", name)
    body = {"user_id": user_id}
    for answer in (
        tweet(system, None, user_id=user_id),
        system.write.post(f"/tweets/{tweet_id}/like", json=body),
        system.write.request("DELETE", f"/tweets/{tweet_id}", json=body),
        system.write.post(f"/users/{other_id}/follow", json=body),
    ):
        assert refusal(answer) == (403, "account_suspended"), answer.request.url
    assert system.write.post(f"/tweets/{tweet_id}/like", json={"user_id": other_id}).status_code == 200
    twitter_json(system, "user", "reinstate", name)
    assert tweet(system, None, user_id=user_id).status_code == 201


def test_the_operator_deletes_an_account(guarded: System) -> None:
    """As DELETE /users/me does: gone with its tweets, and not without being asked."""
    ada = create(guarded)
    tweet_id = tweet(guarded, ada["access_token"]).json()["id"]
    asked = CliRunner().invoke(app, ["user", "delete", ada["username"]], env=environment_of(guarded), input="n\n")
    assert asked.exit_code == 1
    assert twitter(guarded, "user", "delete", ada["username"], "--json").exit_code == 2
    deleted = twitter_json(guarded, "user", "delete", ada["username"], "--yes")
    at = {"X-Min-Position": str(deleted["position"])}
    for path in (f"/users/{ada['id']}", f"/tweets/{tweet_id}"):
        assert guarded.read.get(path, headers=at).status_code == 404
    assert refusal(tweet(guarded, ada["access_token"])) == (401, "token_revoked")
    gone = twitter(guarded, "user", "show", ada["username"])
    assert (gone.exit_code, gone.stderr) == (1, f"twitter: there is no account {ada['username']}\n")


def _keys(system: System) -> dict[str, str]:
    """What leads the operator's commands to the keys of this system."""
    return {"AUTH_KEYS_FILE": system.writers[0].environment["AUTH_KEYS_FILE"]}


def test_the_operator_issues_tokens(guarded: System) -> None:
    """Good at once, also after a revocation; with --pair one that can be refreshed."""
    ada = create(guarded)
    token = twitter(guarded, "token", "issue", ada["username"], environment=_keys(guarded)).stdout.strip()
    assert tweet(guarded, token).status_code == 201
    headers = {"Authorization": f"Bearer {token}"}
    assert guarded.write.post("/auth/revoke", headers=headers).status_code == 200
    assert refusal(tweet(guarded, token)) == (401, "token_revoked")
    pair = twitter_json(guarded, "token", "issue", f"id:{ada['id']}", "--pair", environment=_keys(guarded))
    assert tweet(guarded, pair["access_token"]).status_code == 201
    fresh = guarded.write.post("/auth/refresh", json={"refresh_token": pair["refresh_token"]})
    assert tweet(guarded, fresh.json()["access_token"]).status_code == 201
    missing = twitter(guarded, "token", "issue", ada["username"], environment={"AUTH_KEYS_FILE": "/nowhere"})
    assert missing.exit_code == 2
    assert missing.stderr.startswith("twitter: AUTH_KEYS_FILE: /nowhere: the file cannot be read")


def _token(key_file: Path, *arguments: str) -> Result:
    environment = {"AUTH_KEYS_FILE": str(key_file)}
    return CliRunner().invoke(app, ["token", *arguments], env=environment)


def test_keys_are_made_listed_and_retired(tmp_path: Path) -> None:
    """The first signs at once, the second later; a key that signs, or is still needed, is not removed."""
    path = tmp_path / "keys" / "auth_keys.json"
    assert "`twitter token keys new` makes one" in _token(path, "keys", "list").stderr
    first = json.loads(_token(path, "keys", "new", "--json").stdout)["kid"]
    second = json.loads(_token(path, "keys", "new", "--json").stdout)["kid"]
    listed = json.loads(_token(path, "keys", "list", "--json").stdout)
    assert [(key["kid"], key["signs_now"], key["needed_until"]) for key in listed] == [
        (first, True, None),
        (second, False, None),
    ]
    assert "signs now" in _token(path, "keys", "retire", first, "--force").stderr
    assert "there is no key" in _token(path, "keys", "retire", "no-such-key").stderr

    old, new = parse_keys(path.read_bytes()).keys
    minutes = int(time.time()) - 600
    path.write_bytes(encode_keys([type(old)(old.kid, old.secret, 1), type(new)(new.kid, new.secret, minutes)]))
    refused = _token(path, "keys", "retire", first)
    assert refused.exit_code == 1
    assert "are good until" in refused.stderr
    assert _token(path, "keys", "retire", first, "--force").exit_code == 0
    assert [key.kid for key in parse_keys(path.read_bytes()).keys] == [second]
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_import_acts_with_tokens_of_the_operator(guarded: System, tmp_path: Path) -> None:
    """For the users it creates and for those that were there; without the keys it says what to set."""
    there = create(guarded)["username"]
    new = new_name()
    rows = tmp_path / "rows.ndjson"
    rows.write_text(
        f'{{"username": "{new}", "email": "{new}@example.org"}}\n'
        f'{{"follower": "{new}", "followee": "{there}"}}\n'
        f'{{"username": "{new}", "content": "imported"}}\n'
        f'{{"username": "{there}", "content": "imported too"}}\n'
    )
    without = twitter(guarded, "import", str(rows), "--data", str(tmp_path / "no keys here"))
    assert without.exit_code == 1
    assert "token_missing. Set AUTH_KEYS_FILE" in without.stderr
    data = ["--data", str(tmp_path)]
    report = twitter_json(guarded, "import", str(rows), *data, environment=_keys(guarded))
    assert (report["applied"], report["existed"], report["refused"]) == ({"follow": 1, "tweet": 2}, {"user": 1}, {})
    other = tmp_path / "other_keys.json"
    add_key(other, int(time.time()))
    again = [*data, "--journal", str(tmp_path / "another")]
    strange = twitter(guarded, "import", str(rows), *again, environment={"AUTH_KEYS_FILE": str(other)})
    assert strange.exit_code == 1
    assert "token_signature. Set AUTH_KEYS_FILE" in strange.stderr


def test_the_scripts_work_where_tokens_are_required(guarded: System, tmp_path: Path) -> None:
    """init_db.py completes what an interrupted run left, with the operator's keys; the tour uses its own tokens."""
    assert guarded.create_user("alice").status_code == 201
    environment = {**environment_of(guarded), **_keys(guarded)}
    seeded = run_script("init_db.py", tmp_path, environment)
    assert seeded.returncode == 0, seeded.stderr
    assert "3 users and 5 tweets are there, 7 of them new" in seeded.stdout
    tour = run_script(
        "test_services.sh", tmp_path, {"READ_URL": guarded.readers[0].url, "WRITE_URL": guarded.writers[0].url}
    )
    assert tour.returncode == 0, tour.stdout
    assert "it came with a token" in tour.stdout
