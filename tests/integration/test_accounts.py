"""Accounts on real processes: who may do what, what a refusal leaves behind, and what a deletion does not."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from services.common.auth import add_key
from services.common.auth.signing_keys import encode_keys, parse_keys
from tests.support.guarded import PASSWORD, TOKEN_FIELDS, Account, Guarded, bearer, refusal
from tests.support.process import ServiceProcess
from tests.support.system import System
from tests.support.tokens import BAD, bad_token
from tests.support.wait import eventually


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A system of this module, where AUTH_REQUIRED is true."""
    with Guarded(tmp_path_factory.mktemp("guarded")) as system:
        yield system


@pytest.fixture(scope="module")
def open_system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """The same, where a token is not needed."""
    with Guarded(tmp_path_factory.mktemp("open"), is_required=False) as system:
        yield system


def test_without_a_token_the_body_says_who_acts_where_none_is_required(open_system: Guarded) -> None:
    """The seed's way; and who is not named cannot tweet or follow."""
    ada, bob = open_system.sign_up(), open_system.sign_up()
    created = open_system.write.post("/tweets", json={"content": "hello", "user_id": ada.id})
    assert created.status_code == 201
    assert open_system.write.post(f"/tweets/{created.json()['id']}/like").status_code == 200
    for path, body in (("/tweets", {"content": "hello"}), (f"/users/{bob.id}/follow", {})):
        assert refusal(open_system.write.post(path, json=body)) == (422, "user_id_missing")


def test_a_system_without_keys_gives_no_tokens_and_takes_none(system: System) -> None:
    """The wire format of an account is then the seed's, field for field."""
    created = system.create_user(f"plain_{uuid4().hex[:8]}").json()
    assert not TOKEN_FIELDS & set(created)
    answer = system.write.post("/tweets", json={"content": "x", "user_id": created["id"]}, headers=bearer("a.b.c"))
    assert refusal(answer) == (401, "token_signature")
    login = {"username": created["username"], "password": PASSWORD}
    assert refusal(system.write.post("/auth/token", json=login)) == (401, "bad_credentials")


def test_a_password_gives_tokens_by_name_and_by_email(guarded: Guarded) -> None:
    """In any case of either; and what it gives is good."""
    ada = guarded.sign_up()
    for who in ({"username": ada.username.upper()}, {"email": ada.email.upper()}):
        answer = guarded.write.post("/auth/token", json={**who, "password": PASSWORD})
        assert answer.status_code == 200
        assert set(answer.json()) == TOKEN_FIELDS
        assert (answer.json()["token_type"], answer.json()["expires_in"]) == ("Bearer", 900)
        assert answer.headers["Cache-Control"] == "no-store"
        guarded.tweet(Account(ada.id, ada.username, answer.json()))


def test_a_wrong_password_and_an_unknown_name_look_the_same(guarded: Guarded) -> None:
    """Nobody learns which names, addresses or accounts without a password there are."""
    ada, eve = guarded.sign_up(), guarded.sign_up(None)
    answers = [
        guarded.write.post("/auth/token", json={**who, "password": "wrong password"})
        for who in ({"username": ada.username}, {"username": eve.username}, {"username": "nobody_at_all"})
    ]
    answers.append(guarded.write.post("/auth/token", json={"email": "no@example.org", "password": PASSWORD}))
    assert {(answer.status_code, answer.text) for answer in answers} == {(401, answers[0].text)}
    assert answers[0].json()["code"] == "bad_credentials"


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_refresh_token_is_refused(guarded: Guarded, bad: str) -> None:
    """As access tokens are; an access token is no refresh token."""
    ada = guarded.sign_up(None)
    token = bad_token(bad, guarded.key_file, ada.id, kind="refresh")
    assert refusal(guarded.write.post("/auth/refresh", json={"refresh_token": token})) == (401, BAD[bad])


def test_a_refresh_token_gives_a_new_pair(guarded: Guarded) -> None:
    """Which is how an account without a password goes on."""
    ada = guarded.sign_up(None)
    answer = guarded.write.post("/auth/refresh", json={"refresh_token": ada.tokens["refresh_token"]})
    assert answer.status_code == 200
    guarded.tweet(Account(ada.id, ada.username, answer.json()))


def test_who_logs_in_after_a_revocation_is_in_again(guarded: Guarded) -> None:
    """Also at once, when this writer has hardly heard of it."""
    ada = guarded.sign_up()
    assert guarded.write.post("/auth/revoke", headers=ada.headers).status_code == 200
    answer = guarded.write.post("/auth/token", json={"username": ada.username, "password": PASSWORD})
    guarded.tweet(Account(ada.id, ada.username, answer.json()))


def test_nobody_but_oneself_sees_ones_email(guarded: Guarded) -> None:
    """One's own account has it; the public profile does not."""
    ada = guarded.sign_up()
    mine = guarded.me(ada)
    assert mine.status_code == 200
    assert mine.headers["Cache-Control"] == "no-store"
    assert mine.json()["email"] == ada.email
    assert ada.email not in guarded.read.get(f"/users/{ada.id}").text


def test_an_account_is_changed_in_public_and_in_private(guarded: Guarded) -> None:
    """Name and bio are shown to all, the address is one's own and unique, the old one is free at once."""
    ada, bob = guarded.sign_up(), guarded.sign_up()
    email = f"new-{ada.email}"
    body = {"name": "Ada Lovelace", "bio": "First.", "email": email}
    changed = guarded.write.patch("/users/me", json=body, headers=ada.headers)
    assert (changed.status_code, changed.json()) == (200, {"status": "success"})
    mine = guarded.me(ada, int(changed.headers["X-Log-Position"])).json()
    assert {**mine, **body} == mine
    public = guarded.read.get(f"/users/{ada.id}").json()
    assert (public["name"], public["bio"]) == ("Ada Lovelace", "First.")
    cleared = guarded.write.patch("/users/me", json={"bio": ""}, headers=ada.headers)
    after = guarded.me(ada, int(cleared.headers["X-Log-Position"])).json()
    assert (after["name"], after["bio"]) == ("Ada Lovelace", "")
    taken = guarded.write.patch("/users/me", json={"email": email.upper()}, headers=bob.headers)
    assert refusal(taken) == (409, "email_taken")
    assert guarded.write.patch("/users/me", json={"email": ada.email}, headers=bob.headers).status_code == 200


def test_a_new_password_ends_all_other_logins(guarded: Guarded) -> None:
    """The answer has tokens for the one who changed it."""
    ada = guarded.sign_up()
    changed = guarded.write.patch("/users/me", json={"password": "quite another one"}, headers=ada.headers)
    assert changed.status_code == 200
    assert refusal(guarded.me(ada)) == (401, "token_revoked")
    guarded.tweet(Account(ada.id, ada.username, changed.json()))
    for password, status in ((PASSWORD, 401), ("quite another one", 200)):
        answer = guarded.write.post("/auth/token", json={"username": ada.username, "password": password})
        assert answer.status_code == status


def test_a_deleted_account_is_gone_from_every_answer(guarded: Guarded) -> None:
    """Its tweets, its follows and its profile, from the position of the deletion on."""
    ada, bob = guarded.sign_up(), guarded.sign_up()
    tweet = guarded.tweet(ada)
    for follower, followee in ((ada, bob), (bob, ada)):
        assert guarded.write.post(f"/users/{followee.id}/follow", headers=follower.headers).status_code == 200
    assert guarded.read.get(f"/tweets/{tweet}").status_code == 200
    deleted = guarded.write.delete("/users/me", headers=ada.headers)
    at = {"X-Min-Position": deleted.headers["X-Log-Position"]}
    for path in (
        f"/users/{ada.id}",
        f"/users/by-username/{ada.username}",
        f"/users/{ada.id}/tweets",
        f"/tweets/{tweet}",
    ):
        assert guarded.read.get(path, headers=at).status_code == 404, path
    left = guarded.read.get(f"/users/{bob.id}", headers=at).json()
    assert (left["followers_count"], left["following_count"]) == (0, 0)
    assert guarded.read.get(f"/users/{bob.id}/followers", headers=at).json() == []
    assert guarded.read.get(f"/users/{bob.id}/home", headers=at).json() == []


def test_nobody_acts_for_a_deleted_account(open_system: Guarded) -> None:
    """Without a token either, through a writer that knew it: what it wrote would be seen by nobody."""
    ada, bob = open_system.sign_up(), open_system.sign_up()
    tweet = open_system.tweet(bob)
    assert open_system.write.delete("/users/me", headers=ada.headers).status_code == 200
    head = open_system.log.head()
    for path, more in (
        ("/tweets", {"content": "hello"}),
        (f"/tweets/{tweet}/like", {}),
        (f"/tweets/{tweet}/retweet", {}),
        (f"/users/{bob.id}/follow", {}),
    ):
        answer = open_system.write.post(path, json={"user_id": ada.id, **more})
        assert refusal(answer) == (404, "user_not_found"), path
    assert open_system.log.head() == head


def test_the_email_of_a_deleted_account_is_free_and_its_name_is_held(guarded: Guarded) -> None:
    """Nobody is taken for somebody who left a moment ago."""
    ada = guarded.sign_up()
    guarded.write.delete("/users/me", headers=ada.headers)
    again = {"username": ada.username.upper(), "email": ada.email}
    assert refusal(guarded.write.post("/users", json=again)) == (409, "username_taken")
    assert guarded.write.post("/users", json={**again, "username": f"n{ada.username}"[:30]}).status_code == 201
    login = guarded.write.post("/auth/token", json={"username": ada.username, "password": PASSWORD})
    assert refusal(login) == (401, "bad_credentials")


def test_no_secret_is_on_disk_but_in_the_owners_private_file(tmp_path: Path) -> None:
    """Not in logs, replicas, archive or snapshots; what was replaced or deleted is not in the private file either."""
    with Guarded(tmp_path) as system:
        ada = system.sign_up()
        first = system.log.credentials([ada.id])[ada.id]
        login = system.write.post("/auth/token", json={"username": ada.username, "password": PASSWORD})
        changed = system.write.patch("/users/me", json={"email": "moved@example.org"}, headers=ada.headers)
        system.wait_until_applied(int(changed.headers["X-Log-Position"]))
        kept = system.log.credentials([ada.id])[ada.id]
        tokens = {str(pair[f"{kind}_token"]) for pair in (ada.tokens, login.json()) for kind in ("access", "refresh")}
        assert system.owner.http.get("/internal/snapshot").status_code == 200
        eventually(lambda: not holders(tmp_path, first.email, first.email_hmac))
        assert not holders(tmp_path, PASSWORD, *tokens)
        private = {kept.email, kept.email_hmac, str(kept.password_hash)}
        private_file = {"twitter.private.db"} if isinstance(system.database, Path) else set()
        assert {name.partition("-")[0] for name in holders(tmp_path, *private)} == private_file
        gone = system.write.delete("/users/me", headers=ada.headers)
        system.wait_until_applied(int(gone.headers["X-Log-Position"]))
        eventually(lambda: not holders(tmp_path, *private), describe=lambda: holders(tmp_path, *private))
        with system.redis.client() as redis:
            assert not redis.exists(f"cred:{ada.id}", f"email:{first.email_hmac}", f"email:{kept.email_hmac}")


def holders(directory: Path, *secrets: str) -> set[str]:
    """The names of the files below a directory, without Redis's own, that hold one of these."""
    found = set()
    for path in directory.rglob("*"):
        if path.is_file() and path.relative_to(directory).parts[0] != "redis":
            content = path.read_bytes()
            found |= {path.name for secret in secrets if secret.encode() in content}
    return found


def test_tokens_survive_a_rotation_of_keys_without_a_restart(tmp_path: Path) -> None:
    """The new key signs, what the old one signed stays good while it is there, and ends when it is taken away."""
    with Guarded(tmp_path) as system:
        ada = system.sign_up()
        old = parse_keys(system.key_file.read_bytes()).keys[0]
        new = add_key(system.key_file, int(time.time()) - 3600)
        eventually(lambda: signed_by(system, ada) == new.kid, 20)
        assert system.me(ada).status_code == 200
        system.tweet(ada)
        assert old.kid != new.kid
        system.key_file.write_bytes(encode_keys([new]))
        eventually(lambda: system.me(ada).status_code == 401, 20)
        eventually(lambda: refusal(tweeting(system.writers[0], ada)) == (401, "token_signature"), 20)


def signed_by(system: Guarded, account: Account) -> str:
    """The kid of the key that signs now."""
    body = {"username": account.username, "password": PASSWORD}
    header = system.write.post("/auth/token", json=body).json()["access_token"].split(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(header + "=="))["kid"])


def tweeting(writer: ServiceProcess, account: Account) -> httpx.Response:
    """What a writer says to a tweet."""
    return writer.http.post("/tweets", json={"content": "again"}, headers=account.headers)
