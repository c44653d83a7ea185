"""Secrets stay where they belong: a tour with marked ones, and a search of everything that every process has said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from services.common.log.client import EventLog
from tests.support.commands import twitter
from tests.support.guarded import Guarded, bearer
from tests.support.process import REPOSITORY, Program, ServiceProcess
from tests.support.wait import eventually

REDIS_PASSWORD: Final = "canary-of-redis-5b1f"
EMAIL_KEY: Final = "canary-of-the-email-key-77aa"
PASSWORD: Final = "canary-of-a-password-91c4"
NEW_PASSWORD: Final = "canary-of-a-second-password-91c4"
WRONG_PASSWORD: Final = "canary-of-a-wrong-password-91c4"
PASSWORDS: Final = (PASSWORD, NEW_PASSWORD, WRONG_PASSWORD)
EMAIL: Final = "canary.address@example.org"
NEW_EMAIL: Final = "canary.second.address@example.org"
IDEMPOTENCY_KEY: Final = "canary-of-an-idempotency-key-with-36-c"
BROKEN_KEY: Final = "canary-of-a-signing-key-that-is-cut-off"
OF_THE_SYSTEM: Final = (REDIS_PASSWORD, EMAIL_KEY, BROKEN_KEY)
OF_CLIENTS: Final = (*PASSWORDS, EMAIL, NEW_EMAIL, IDEMPOTENCY_KEY)
AS_JSON: Final = {"Content-Type": "application/json"}

pytestmark = pytest.mark.timeout(180)


class Tour(Guarded):
    """A system whose Redis wants a password, and that logs all it can. Remembers what clients were answered."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, environment={"LOG_LEVEL": "debug"})
        self.without_password = self.redis.url
        self.redis.url = self.redis.url.replace("//", f"//:{REDIS_PASSWORD}@")
        for service in self.services:
            service.environment["REDIS_URL"] = self.redis.url
        self.writers[0].environment["EMAIL_HASH_KEY"] = EMAIL_KEY
        self.log = EventLog(self.redis.url)
        self.answers: list[httpx.Response] = []
        self.tokens: set[str] = set()

    @property
    def services(self) -> list[ServiceProcess]:
        """Every process of ours."""
        return list(self._services())

    def start_log(self) -> None:
        """Start Redis; it asks for its password from then on."""
        with_password, self.redis.url = self.redis.url, self.without_password
        super().start_log()
        with self.redis.client() as client:
            client.config_set("requirepass", REDIS_PASSWORD)
        self.redis.url = with_password

    def ask(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Ask as a client does, and remember the answer, but for the one that shows her own account to somebody."""
        answer = (self.read if method == "GET" else self.write).request(method, path, **arguments)
        if (method, path, answer.status_code) != ("GET", "/users/me", 200):
            self.answers.append(answer)
        return answer

    def token_in(self, answer: httpx.Response) -> str:
        """The access token that was given; both are secrets from now on."""
        self.tokens |= {str(answer.json()[name]) for name in ("access_token", "refresh_token")}
        return str(answer.json()["access_token"])


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    """All that a client does, all that it can do wrong with a secret, and a system that breaks meanwhile."""
    with Tour(tmp_path_factory.mktemp("tour")) as system:
        token = _live(system)
        _ask_all_routes(system, token)
        _err(system, token)
        _break_the_keys(system, token)
        _break_redis(system, token)
        yield system


def _live(system: Tour) -> str:
    """A whole life of an account; a token for it."""
    account = {"username": "ada", "email": EMAIL, "password": PASSWORD}
    key = {"Idempotency-Key": IDEMPOTENCY_KEY}
    token = system.token_in(system.ask("POST", "/users", json=account, headers=key))
    system.ask("POST", "/users", json=account, headers=key)
    system.ask("POST", "/users", json={**account, "username": "eve"})
    for login in ({"username": "ada"}, {"email": EMAIL}):
        token = system.token_in(system.ask("POST", "/auth/token", json={**login, "password": PASSWORD}))
    system.ask("POST", "/tweets", json={"content": "hello"}, headers=bearer(token))
    for change in ({"email": NEW_EMAIL}, {"password": NEW_PASSWORD}):
        changed = system.ask("PATCH", "/users/me", json=change, headers=bearer(token))
        assert changed.status_code == 200, changed.text
    token = system.token_in(changed)
    system.wait_until_applied(int(changed.headers["X-Log-Position"]))
    refreshed = system.ask("POST", "/auth/refresh", json={"refresh_token": changed.json()["refresh_token"]})
    token = system.token_in(refreshed)
    mine = system.read.get("/users/me", headers=bearer(token))
    assert mine.json()["email"] == NEW_EMAIL
    system.ask("POST", "/auth/token", json={"username": "ada", "password": WRONG_PASSWORD})
    return token


def _ask_all_routes(system: Tour, token: str) -> None:
    """Every route of the documents: as somebody else, as nobody, and with secrets where there should be something."""
    bob = bearer(system.sign_up().tokens["access_token"])
    user_id = system.read.get("/users/by-username/ada").json()["id"]
    tweet_id = system.read.get(f"/users/{user_id}/tweets").json()[0]["id"]
    secret = {"password": PASSWORD, "email": EMAIL, "refresh_token": token, "content": "hello", "username": "ada"}
    for service in (system.readers[0], system.writers[0]):
        for path, operations in service.http.get("/openapi.json").json()["paths"].items():
            there = path.format(user_id=user_id, tweet_id=tweet_id, username="ada")
            for method in map(str.upper, operations):
                for headers in (bob, {}, bearer(token + "x")):
                    if (method, path) == ("DELETE", "/users/me"):
                        continue
                    system.answers.append(service.http.request(method, there, headers=headers))
                    system.answers.append(service.http.request(method, there, headers=headers, json=secret))


def _err(system: Tour, token: str) -> None:
    """Secrets where they do not belong."""
    secret = {"password": PASSWORD, "email": EMAIL, "refresh_token": token}
    for path in ("/users", "/auth/token", "/auth/refresh", "/tweets", "/users/1/follow"):
        system.ask("POST", path, json=[secret])
        system.ask("POST", path, json={name: [value] for name, value in secret.items()})
        system.ask("POST", path, json={value: name for name, value in secret.items()})
        system.ask("POST", path, content=json.dumps(secret)[:-1], headers=AS_JSON)
        system.ask("POST", path, content=f"password={PASSWORD}&email={EMAIL}", headers={"Content-Type": "text/plain"})
    system.ask("POST", "/users", json={"username": PASSWORD, "email": f"{EMAIL} ", "password": token})
    system.ask("POST", "/users", json={"username": "carl", "email": f"carl@{PASSWORD}\u0640.example"})
    system.ask("POST", "/auth/token", json={"username": EMAIL, "email": EMAIL, "password": PASSWORD})
    for header in (bearer(PASSWORD), {"Authorization": f"Basic {PASSWORD}"}, bearer(token + "x"), bearer(token[:-4])):
        system.ask("GET", "/users/me", headers=header)
        system.ask("POST", "/tweets", json={"content": "x"}, headers={**header, "X-Min-Position": PASSWORD})
    for method in ("GET", "POST"):
        system.ask(method, f"/users/1/tweets?access_token={token}&limit={PASSWORD}")
        system.ask(method, "/", headers={"X-Request-Id": f"{PASSWORD}!", "Idempotency-Key": f"{PASSWORD} {PASSWORD}"})


def _break_the_keys(system: Tour, token: str) -> None:
    """The file of keys is cut off while everything runs, and a moment later whole again."""
    whole = system.key_file.read_bytes()
    cut_off = b'{"keys": [{"kty": "oct", "kid": "%s", "k": "%s' % (BROKEN_KEY.encode(), BROKEN_KEY.encode())
    for content, refused in ((cut_off, "auth_key_file_refused 1.0"), (whole, "auth_key_file_refused 0.0")):
        system.key_file.write_bytes(content)
        eventually(lambda refused=refused: _both_say(system, token, refused), poll_seconds=0.2)  # type: ignore[misc]


def _both_say(system: Tour, token: str, metric: str) -> bool:
    """Whether both services have looked at the file since, which a token makes them do."""
    system.ask("GET", "/users/me", headers=bearer(token))
    system.ask("POST", "/tweets", json={}, headers=bearer(token))
    return all(metric in service.metrics() for service in (system.readers[0], system.writers[0]))


def _break_redis(system: Tour, token: str) -> None:
    """Redis wants another password, and then it is gone."""
    with system.redis.client() as client:
        client.config_set("requirepass", "another one")
        client.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda: system.ask("GET", "/users/me", headers=bearer(token)).status_code == 503)
        system.ask("POST", "/users", json={"username": "dora", "email": NEW_EMAIL, "password": PASSWORD})
        eventually(lambda: not system.writers[0].is_ready)
        client.config_set("requirepass", REDIS_PASSWORD)
    eventually(lambda: system.writers[0].is_ready)
    system.redis.kill()
    ada = {"username": "ada", "password": PASSWORD}
    eventually(lambda: system.ask("POST", "/auth/token", json=ada).status_code == 503)
    eventually(lambda: not system.writers[0].is_ready)


@dataclass
class Said:
    """What was said, by where."""

    places: dict[str, str] = field(default_factory=dict)

    def holding(self, *secrets: str) -> dict[str, list[str]]:
        """The places that hold one of these, and which."""
        found = {place: [secret for secret in secrets if secret in text] for place, text in self.places.items()}
        return {place: secrets for place, secrets in found.items() if secrets}


def said_by(system: Tour) -> Said:
    """Logs, metrics, OpenAPI documents and command lines of all processes."""
    said = Said({f"log of {part.name}": part.log for part in (*system.services, system.redis)})
    for service in system.services:
        said.places[f"metrics of {service.name}"] = service.metrics()
        said.places[f"documents of {service.name}"] = service.http.get("/openapi.json").text
        said.places[f"command line of {service.name}"] = Path(f"/proc/{service.pid}/cmdline").read_text()
    return said


def test_no_secret_is_in_a_log_a_metric_a_document_or_a_command_line(tour: Tour) -> None:
    """At the level debug, after errors of every kind: nothing that anybody could act with, and nobody's address."""
    keys = [key["k"] for key in json.loads(tour.key_file.read_bytes())["keys"]]
    said = said_by(tour)
    assert said.holding("log_unavailable", "log_not_ready"), "the tour has met no trouble"
    assert said.holding('"event": "request"'), "the tour was not logged"
    assert said.holding(*OF_THE_SYSTEM, *OF_CLIENTS, *tour.tokens, *keys) == {}
    assert said.holding("argon2id") == {}


def test_no_answer_says_more_than_its_own_tokens(tour: Tour) -> None:
    """Not to who sent it either: what is sent back ends in logs of others, in screenshots, in bug reports."""
    quiet = [answer for answer in tour.answers if "access_token" not in answer.text or answer.status_code >= 400]
    assert len(quiet) > 100
    assert {answer.status_code for answer in quiet} >= {200, 400, 401, 403, 404, 409, 415, 422, 503}
    texts = [f"{answer.request.method} {answer.url.path}: {answer.text} {answer.headers}" for answer in quiet]
    secrets = (*OF_THE_SYSTEM, *OF_CLIENTS, *tour.tokens)
    assert {secret: text for secret in secrets for text in texts if secret in text} == {}
    assert not [text for text in texts if "Traceback" in text or 'File "' in text or "redis" in text.lower()]


def test_nobodys_address_is_in_an_answer_to_somebody_else(tour: Tour) -> None:
    """Nor in an answer that gives tokens: her own account has it, and nothing else."""
    assert not [answer.url for answer in tour.answers for email in (EMAIL, NEW_EMAIL) if email in answer.text]


def test_the_tools_of_the_operator_do_not_show_them_either(tour: Tour) -> None:
    """What they print is pasted into tickets."""
    environment = {"REDIS_URL": tour.redis.url, "EMAIL_HASH_KEY": EMAIL_KEY, "AUTH_KEYS_FILE": str(tour.key_file)}
    keys = [key["k"] for key in json.loads(tour.key_file.read_bytes())["keys"]]
    for command in (["doctor"], ["doctor", "--json"], ["log"], ["token", "keys", "list"], ["user", "show", "ada"]):
        shown = twitter(tour, *command, environment=environment)
        assert shown.output
        assert not [secret for secret in (*OF_THE_SYSTEM, *OF_CLIENTS, *keys) if secret in shown.output], command


ROWS: Final = {
    "users.csv": f"username,email,password\nno name,{EMAIL},{PASSWORD}\nann,{EMAIL},{PASSWORD},{PASSWORD}\n",
    "users.ndjson": f'{{"username": "ann", "email": "{EMAIL}", "passwort": "{PASSWORD}"}}\n'
    f'{{"username": "ann", "email": "{EMAIL}", "password": "{PASSWORD}"\n'
    f'{{"username": "ann", "email": ["{EMAIL}"], "password": ["{PASSWORD}"]}}\n'
    f'["{EMAIL}", "{PASSWORD}"]\n{{"username": "a b", "email": "{EMAIL}", "password": "{PASSWORD}"}}\n',
    "headless.csv": f"ann,{EMAIL},{PASSWORD}\nbob,b{EMAIL},{PASSWORD}\n",
    "broken.csv": f'username,email,password\nann,{EMAIL},"{PASSWORD}\n',
}


def test_an_import_writes_none_of_them_down(tmp_path: Path) -> None:
    """Nor says them: its journal and its report are kept for long, and shown to whoever helps."""
    with Guarded(tmp_path / "system", is_required=False) as system:
        for name, content in ROWS.items():
            path, kept = tmp_path / name, tmp_path / f"{name}.kept"
            path.write_text(content)
            shown = twitter(system, "import", str(path), "--journal", str(kept / "import.journal"))
            written = "".join(file.read_text() for file in kept.iterdir()) if kept.exists() else ""
            assert "refused" in written or shown.exit_code > 1, name
            said = shown.output + str(shown.exception) + written
            assert not [secret for secret in (EMAIL, PASSWORD) if secret in said], (name, said)


BAD_SETTINGS: Final = {
    "services.write": {
        "REDIS_URL": f"redis://:{REDIS_PASSWORD}@host:no-port/x",
        "CACHE_URL": f"ftp://:{REDIS_PASSWORD}@host",
        "EMAIL_HASH_KEY": EMAIL_KEY,
        "PORT": PASSWORD,
    },
    "services.read": {
        "REDIS_URL": f"redis+sentinel://me:{REDIS_PASSWORD}@host/",
        "DATABASE_URL": f"mysql://me:{PASSWORD}@host/x",
        "LOG_LEVEL": PASSWORD,
    },
    "services.db_updater": {
        "DATABASE_URL": f"postgresql+psycopg://me:{PASSWORD}@host:no-port/x",
        "REDIS_URL": f"redis://:{REDIS_PASSWORD}@host:99999999",
    },
}


def test_what_is_wrong_with_a_setting_is_said_without_its_value(tmp_path: Path) -> None:
    """Each bad variable is named on stderr, which is where logs are collected."""
    python = {"PYTHONPATH": str(REPOSITORY), "AUTH_KEYS_FILE": str(tmp_path / "none")}
    for module, environment in BAD_SETTINGS.items():
        service = Program(module, [sys.executable, "-m", module], tmp_path, {**python, **environment})
        service.start()
        assert service.wait() == 2, service.log
        assert all(f"{name}: " in service.log for name in environment.keys() - {"EMAIL_HASH_KEY"}), service.log
        assert not [secret for secret in (*OF_THE_SYSTEM, *PASSWORDS) if secret in service.log], service.log


def test_keys_that_are_unfit_at_the_start_are_not_quoted(tour: Tour, tmp_path: Path) -> None:
    """The service says what is wrong with them, and ends."""
    key_file = tmp_path / "keys.json"
    key_file.write_text(json.dumps({"keys": [{"kty": "oct", "kid": BROKEN_KEY, "k": BROKEN_KEY, "signs_from": 0}]}))
    writer = tour.new_writer("with-bad-keys")
    writer.environment |= {"EMAIL_HASH_KEY": EMAIL_KEY, "AUTH_KEYS_FILE": str(key_file)}
    writer.start()
    try:
        assert writer.wait() != 0
    finally:
        writer.close()
    assert "start_refused" in writer.log
    assert not [secret for secret in OF_THE_SYSTEM if secret in writer.log], writer.log
