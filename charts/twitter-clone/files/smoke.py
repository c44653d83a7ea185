"""Posts a tweet and reads it back, as a client would; READ_URL and WRITE_URL say where. A failure exits with code 1."""

import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

SECONDS_MAX = 60
DEADLINE = time.monotonic() + SECONDS_MAX


class Answer(NamedTuple):
    """Status, X-Log-Position and body of an answer."""

    status: int
    position: str
    body: Any


def ask(url: str, body: Mapping[str, object] | None, headers: dict[str, str]) -> Answer:
    """Send a GET, or a POST with a body. Nobody there is like a 503."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - the URL is the chart's
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return Answer(answer.status, answer.headers.get("X-Log-Position", "0"), json.load(answer))
    except urllib.error.HTTPError as error:
        return Answer(error.code, "0", error.read().decode())
    except OSError as error:
        return Answer(503, "0", str(error))


def expect(status: int, url: str, body: Mapping[str, object] | None = None, **headers: str) -> Answer:
    """Ask until the answer is not 503, within the time that all steps share; anything but ``status`` ends the test."""
    answer = ask(url, body, headers)
    while answer.status == 503 and time.monotonic() < DEADLINE:
        time.sleep(1)
        answer = ask(url, body, headers)
    if answer.status != status:
        sys.exit(f"{url} answered {answer.status} instead of {status}: {answer.body}")
    return answer


def main() -> None:
    """Create a user and a tweet, then read the tweet at its position."""
    read_url, write_url = os.environ["READ_URL"], os.environ["WRITE_URL"]
    name = f"helm_test_{secrets.token_hex(6)}"
    user = expect(201, f"{write_url}/users", {"username": name, "email": f"{name}@example.com"}).body
    # Without keys there is no token, and none is needed.
    headers = {"Authorization": f"Bearer {user['access_token']}"} if "access_token" in user else {}
    tweet = expect(201, f"{write_url}/tweets", {"user_id": user["id"], "content": "helm test"}, **headers)
    found = expect(200, f"{read_url}/tweets/{tweet.body['id']}", **{"X-Min-Position": tweet.position})
    if (found.body["content"], found.body["user"]["username"]) != ("helm test", name):
        sys.exit(f"another tweet came back: {found.body}")


if __name__ == "__main__":
    main()
