"""The read service over HTTP, in a whole running system."""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import uuid4

import httpx
import pytest

from services.common.ids import POSITION_MAX, position_at
from services.common.views import HomeTweetView, ProfileView, TweetView, UserView
from services.read.app import create_app
from services.read.settings import ReadSettings
from tests.support.databases import READ_STORE
from tests.support.system import System


class Client:
    """Writes and reads as one client does: each read asks for the greatest position seen."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.position = 0

    def user(self) -> int:
        """A new user's id."""
        return self._created(self.system.create_user(f"u{uuid4().hex[:12]}"))

    def tweet(self, user_id: int, content: str = "hello") -> int:
        """A new tweet's id."""
        return self._created(self.system.create_tweet(user_id, content))

    def act(self, path: str, user_id: int | None = None) -> None:
        """Like, retweet or follow."""
        answer = self.system.write.post(path, json={"user_id": user_id} if user_id else None)
        assert answer.status_code == httpx.codes.OK, answer.text
        self._see(answer)

    def undo(self, path: str, user_id: int) -> None:
        """Delete, or take back."""
        answer = self.system.write.request("DELETE", path, json={"user_id": user_id})
        assert answer.status_code == httpx.codes.OK, answer.text
        self._see(answer)

    def reply(self, user_id: int, tweet_id: int) -> int:
        """The id of a new reply."""
        body = {"content": "indeed", "user_id": user_id, "in_reply_to_id": tweet_id}
        return self._created(self.system.write.post("/tweets", json=body))

    def get(self, path: str) -> httpx.Response:
        """A read at the greatest position seen."""
        return self._see(self.system.read.get(path, headers={"X-Min-Position": str(self.position)}))

    def walk(self, path: str) -> list[list[int]]:
        """The ids on all pages of a list, from one ``next`` to the other."""
        pages, answer = [], self.get(path)
        while True:
            pages.append([item["id"] for item in answer.raise_for_status().json()])
            if "next" not in answer.links:
                return pages
            answer = self.get(answer.links["next"]["url"])

    def _created(self, answer: httpx.Response) -> int:
        created: int = self._see(answer).json()["id"]
        return created

    def _see(self, answer: httpx.Response) -> httpx.Response:
        self.position = max(self.position, int(answer.headers["X-Log-Position"]))
        return answer


@pytest.fixture
def client(system: System) -> Client:
    """A client of the shared system."""
    return Client(system)


def problem(answer: httpx.Response) -> tuple[int, str]:
    """(status, code) of a refusal in the one error shape."""
    body = answer.json()
    assert set(body) == {"detail", "code"}
    return answer.status_code, body["code"]


def test_a_write_is_in_the_read_that_carries_its_position(client: Client) -> None:
    """Every like is counted in the read after it, although each of these answers was cached before."""
    ada = client.user()
    tweet = client.tweet(ada)
    for likes in range(1, 20):
        client.act(f"/tweets/{tweet}/like")
        assert client.get(f"/tweets/{tweet}").json()["likes"] == likes
        assert client.get(f"/users/{ada}/tweets").json()[0]["likes"] == likes


def test_a_fresh_tweet_is_found_without_a_position(client: Client, system: System) -> None:
    """By its id alone, whether the replica has it already or Redis still helps out."""
    ada = client.user()
    for _ in range(20):
        tweet = client.tweet(ada)
        assert system.read.get(f"/tweets/{tweet}").json()["id"] == tweet


def test_a_follow_changes_the_counts_wherever_the_user_is_embedded(client: Client) -> None:
    """HAZARDS 10: tweets, lists and the user herself were all cached with the old count."""
    ada, bob, eve = (client.user() for _ in range(3))
    tweet = client.tweet(ada)
    paths = [f"/tweets/{tweet}", f"/users/{ada}/tweets", f"/users/{eve}/following", f"/users/{ada}"]
    client.act(f"/users/{ada}/follow", eve)
    before = [client.get(path).json() for path in paths]
    client.act(f"/users/{ada}/follow", bob)
    after = [client.get(path).json() for path in paths]

    def counts(answers: Sequence[object]) -> list[object]:
        tweet, tweets, following, user = answers
        return [tweet["user"], tweets[0]["user"], following[0], user]  # type: ignore[index]

    assert [user["followers_count"] for user in counts(before)] == [1] * 4  # type: ignore[index]
    assert [user["followers_count"] for user in counts(after)] == [2] * 4  # type: ignore[index]


def test_lists_are_walked_by_their_links_newest_first(client: Client) -> None:
    """Tweets, followers, followed and home, in pages of two; none twice, none missing."""
    ada, *others = (client.user() for _ in range(6))
    tweets = [client.tweet(ada) for _ in range(5)]
    for other in others:
        client.act(f"/users/{ada}/follow", other)
        client.act(f"/users/{other}/follow", ada)
    fans = others[::-1]
    assert client.walk(f"/users/{ada}/tweets?limit=2") == [tweets[:2:-1], tweets[2:0:-1], tweets[:1]]
    assert client.walk(f"/users/{ada}/followers?limit=2") == [fans[:2], fans[2:4], fans[4:]]
    assert client.walk(f"/users/{ada}/following?limit=2") == [fans[:2], fans[2:4], fans[4:]]
    assert client.walk(f"/users/{others[0]}/home?limit=2") == [tweets[:2:-1], tweets[2:0:-1], tweets[:1]]
    assert client.walk(f"/users/{ada}/tweets?limit=2&offset=1&since_id={tweets[1]}") == [[tweets[3], tweets[2]]]


def test_lists_of_a_tweet_are_walked_by_their_links_newest_first(client: Client) -> None:
    """Replies, likes and retweets, in pages of two; anonymous ones are counted and not listed."""
    ada, *others = (client.user() for _ in range(6))
    tweet = client.tweet(ada)
    replies = [client.reply(ada, tweet) for _ in range(5)]
    for action in ("like", "retweet"):
        for other in others:
            client.act(f"/tweets/{tweet}/{action}", other)
        client.act(f"/tweets/{tweet}/{action}")
    fans = others[::-1]
    assert client.walk(f"/tweets/{tweet}/replies?limit=2") == [replies[:2:-1], replies[2:0:-1], replies[:1]]
    assert client.walk(f"/tweets/{tweet}/likes?limit=2") == [fans[:2], fans[2:4], fans[4:]]
    assert client.walk(f"/tweets/{tweet}/retweets?limit=2") == [fans[:2], fans[2:4], fans[4:]]
    shown = client.get(f"/tweets/{tweet}").json()
    assert (shown["likes"], shown["retweets"], shown["reply_count"]) == (6, 6, 5)


def test_what_is_undone_is_gone_from_the_read_after_it(client: Client) -> None:
    """A second time changes nothing. Every answer was cached before."""
    ada, bob = client.user(), client.user()
    tweet = client.tweet(ada)
    paths = [f"/tweets/{tweet}/likes", f"/tweets/{tweet}/retweets"]
    for action in ("like", "retweet"):
        client.act(f"/tweets/{tweet}/{action}", bob)
    assert [[user["id"] for user in client.get(path).json()] for path in paths] == [[bob], [bob]]
    for _ in range(2):
        for action in ("like", "retweet"):
            client.undo(f"/tweets/{tweet}/{action}", bob)
        assert [client.get(path).json() for path in paths] == [[], []]
        shown = client.get(f"/tweets/{tweet}").json()
        assert (shown["likes"], shown["retweets"]) == (0, 0)


def test_a_deleted_tweet_is_nowhere_in_the_read_after_it(client: Client) -> None:
    """Not by its id, nor in its author's list, on a timeline, among the replies; its parent counts one less."""
    ada, bob = client.user(), client.user()
    client.act(f"/users/{ada}/follow", bob)
    parent = client.tweet(bob)
    tweet = client.reply(ada, parent)
    reply = client.reply(bob, tweet)
    client.act(f"/tweets/{tweet}/retweet", bob)
    lists = [f"/users/{ada}/tweets", f"/users/{ada}/home", f"/users/{bob}/home", f"/tweets/{parent}/replies"]
    assert all(tweet in [item["id"] for item in client.get(path).json()] for path in lists)
    assert client.get(f"/tweets/{parent}").json()["reply_count"] == 1
    for _ in range(2):
        client.undo(f"/tweets/{tweet}", ada)
        for path in ("", "/replies", "/likes", "/retweets"):
            assert problem(client.get(f"/tweets/{tweet}{path}")) == (404, "tweet_not_found")
        assert not any(tweet in [item["id"] for item in client.get(path).json()] for path in lists)
        assert client.get(f"/tweets/{parent}").json()["reply_count"] == 0
    assert client.get(f"/tweets/{reply}").json()["in_reply_to_id"] == tweet


def test_a_stranger_cannot_delete_a_tweet(client: Client) -> None:
    """The read service says whose it is."""
    ada, eve = client.user(), client.user()
    tweet = client.tweet(ada)
    refused = client.system.write.request("DELETE", f"/tweets/{tweet}", json={"user_id": eve})
    assert problem(refused) == (403, "not_the_author")
    assert client.get(f"/tweets/{tweet}").status_code == httpx.codes.OK


def test_prev_leads_to_what_is_new_since(client: Client) -> None:
    """A client that polls keeps the link; with nothing new the page is empty."""
    ada = client.user()
    first = client.tweet(ada)
    link = client.get(f"/users/{ada}/home").links["prev"]["url"]
    assert client.get(link).json() == []
    second = client.tweet(ada)
    assert [tweet["id"] for tweet in client.get(link).json()] == [second]
    assert first < second


def test_home_shows_a_retweeted_tweet_once_and_by_whom(client: Client) -> None:
    """The wire format of a tweet, and who brought it."""
    me, friend, stranger = (client.user() for _ in range(3))
    client.act(f"/users/{friend}/follow", me)
    tweet, own = client.tweet(stranger), client.tweet(me)
    assert [item["id"] for item in client.get(f"/users/{me}/home").json()] == [own]
    client.act(f"/tweets/{tweet}/retweet", friend)
    client.act(f"/tweets/{own}/retweet", friend)
    items = client.get(f"/users/{me}/home").json()
    assert [(item["id"], item["retweeted_by"]["id"]) for item in items] == [(own, friend), (tweet, friend)]
    plain = client.get(f"/tweets/{tweet}").json()
    assert {key: value for key, value in items[1].items() if key != "retweeted_by"} == plain


def test_answers_have_the_declared_fields_in_their_order(client: Client) -> None:
    """What is sent ready-encoded is what OpenAPI declares."""
    ada = client.user()
    tweet = client.tweet(ada)
    found = client.get(f"/tweets/{tweet}").json()
    assert list(found) == list(TweetView.__struct_fields__)
    assert list(found["user"]) == list(UserView.__struct_fields__)
    assert list(client.get(f"/users/{ada}").json()) == list(ProfileView.__struct_fields__)
    assert list(client.get(f"/users/{ada}/home").json()[0]) == list(HomeTweetView.__struct_fields__)


def test_a_user_is_found_by_name_in_any_case_as_soon_as_she_exists(client: Client) -> None:
    """Also when the name was asked for before, and nobody had it."""
    name = f"Name{uuid4().hex[:10]}"
    path = f"/users/by-username/{name.upper()}"
    assert problem(client.get(path)) == (404, "user_not_found")
    created = client.system.create_user(name)
    client.position = int(created.headers["X-Log-Position"])
    assert client.get(path).json() == {**created.json(), "name": "", "bio": ""}


def test_lists_of_what_was_just_created_are_empty(client: Client, system: System) -> None:
    """Without a position: the replica may not have it yet, but it exists."""
    for _ in range(10):
        ada = client.user()
        for name in ("tweets", "followers", "following", "home"):
            assert system.read.get(f"/users/{ada}/{name}").json() == []
        tweet = client.tweet(ada)
        for name in ("replies", "likes", "retweets"):
            assert system.read.get(f"/tweets/{tweet}/{name}").json() == []


def test_what_does_not_exist_is_a_404_with_a_code(client: Client, system: System) -> None:
    """An id below, an id between, and one in the far future."""
    ada = client.user()
    for absent in (1, ada - 1, position_at(3_000_000_000_000), POSITION_MAX):
        for path in ("", "/replies", "/likes", "/retweets"):
            assert problem(system.read.get(f"/tweets/{absent}{path}")) == (404, "tweet_not_found")
        for path in ("", "/tweets", "/followers", "/following", "/home"):
            assert problem(system.read.get(f"/users/{absent}{path}")) == (404, "user_not_found")
    assert system.read.get("/tweets/1").json() == {"detail": "Tweet not found", "code": "tweet_not_found"}


@pytest.mark.parametrize(
    "path",
    [
        "/tweets/0",
        "/tweets/-1",
        "/tweets/abc",
        "/tweets/1.5",
        f"/tweets/{2**63}",
        f"/tweets/{'9' * 5000}",
        "/users/0",
        f"/users/{POSITION_MAX + 1}/tweets",
        "/users/by-username/a%20b",
        "/users/by-username/%00",
        f"/users/by-username/{'a' * 31}",
        "/users/1/tweets?limit=0",
        "/users/1/tweets?limit=101",
        "/users/1/tweets?offset=-1",
        "/users/1/tweets?offset=10001",
        f"/users/1/tweets?offset={'9' * 5000}",
        "/users/1/followers?max_id=0",
        "/tweets/0/replies",
        "/tweets/1/replies?limit=101",
        "/tweets/1/likes?max_id=0",
        "/tweets/1/retweets?since_id=-1",
        f"/users/1/followers?max_id={2**63}",
        "/users/1/home?max_id=abc",
        "/users/1/home?since_id=-1",
        "/users/1/home?limit=%ED%A0%80",
    ],
)
def test_what_cannot_be_meant_is_a_422(system: System, path: str) -> None:
    """Never a 500, and in the one error shape."""
    assert problem(system.read.get(path)) == (422, "validation_error")


@pytest.mark.parametrize(
    "text",
    ["", "abc", "-1", "1.0", "1 2", "١٢", "0x10", str(POSITION_MAX + 1), "9" * 5000, "1,2"],
)
def test_a_position_that_is_none_is_refused(system: System, text: str) -> None:
    """Whatever stands in X-Min-Position."""
    answer = system.read.get("/tweets/1", headers=[(b"X-Min-Position", text.encode())])
    assert problem(answer) == (400, "bad_position")


def test_a_position_a_minute_ahead_is_refused_at_once(system: System) -> None:
    """Nobody can have been given it; waiting for it would only take a connection."""
    ahead = position_at(time.time_ns() // 1_000_000 + 90_000)
    answer = system.read.get("/tweets/1", headers={"X-Min-Position": str(ahead)})
    assert problem(answer) == (400, "position_in_future")


def test_a_position_that_is_not_reached_in_time_is_a_503(client: Client, system: System) -> None:
    """Never an older state."""
    client.user()
    ahead = position_at(time.time_ns() // 1_000_000 + 20_000)
    answer = system.read.get("/tweets/1", headers={"X-Min-Position": str(ahead)})
    assert problem(answer) == (503, "position_not_reached")
    assert int(answer.headers["Retry-After"]) >= 1
    assert int(answer.headers["X-Log-Position"]) < ahead


def test_head_answers_as_get_does_without_the_body(client: Client) -> None:
    """For those who only want to know whether it is there."""
    tweet = client.tweet(client.user())
    headers = {"X-Min-Position": str(client.position)}
    head = client.system.read.head(f"/tweets/{tweet}", headers=headers)
    got = client.system.read.get(f"/tweets/{tweet}", headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]
    assert client.system.read.head("/tweets/1").status_code == httpx.codes.NOT_FOUND


def test_the_metrics_say_what_the_reader_does(client: Client) -> None:
    """Those that the operations page names."""
    tweet = client.tweet(client.user())
    for _ in range(3):
        client.get(f"/tweets/{tweet}")
    text = client.system.readers[0].metrics()
    values = {line.split()[0]: float(line.split()[1]) for line in text.splitlines() if not line.startswith("#")}
    assert values["applied_position"] >= tweet
    assert 0 <= values["replica_lag_seconds"] < 5
    assert values["snapshots_taken_total"] == (READ_STORE == "replica")
    assert values["cache_hits_total"] >= 1
    for name in ("cache_misses_total", "cache_fills_refused_total", "cache_bytes", "min_position_wait_seconds_count"):
        assert name in values


def test_openapi_declares_every_route_with_its_refusals() -> None:
    """Without a running service: the document needs no replica."""
    document = create_app(ReadSettings(port=0, metrics_port=0)).openapi()
    paths = {
        path: operations["get"] for path, operations in document["paths"].items() if path[1:6] in {"tweet", "users"}
    }
    assert sorted(paths) == [
        "/tweets/{tweet_id}",
        "/tweets/{tweet_id}/likes",
        "/tweets/{tweet_id}/replies",
        "/tweets/{tweet_id}/retweets",
        "/users/by-username/{username}",
        "/users/me",
        "/users/{user_id}",
        "/users/{user_id}/followers",
        "/users/{user_id}/following",
        "/users/{user_id}/home",
        "/users/{user_id}/tweets",
    ]
    for path, operation in paths.items():
        absent = "401" if path == "/users/me" else "404"
        assert {"200", "400", absent, "422", "503"} <= set(operation["responses"])
        assert "X-Min-Position" in {parameter["name"] for parameter in operation["parameters"]}


@pytest.mark.parametrize("path", ["/tweets/{tweet}", "/users/{user}", "/users/{user}/tweets", "/users/{user}/home"])
def test_what_has_not_changed_is_a_304_until_it_has(system: System, path: str) -> None:
    """Both answers say which position they know, so a client that reads by ETag goes on reading its own writes."""
    client = Client(system)
    user = client.user()
    tweet = client.tweet(user)
    url = path.format(user=user, tweet=tweet)
    first = client.get(url)
    known = {"If-None-Match": first.headers["ETag"], "X-Min-Position": str(client.position)}
    same = system.read.get(url, headers=known)
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert int(same.headers["X-Log-Position"]) >= client.position
    assert first.headers["Cache-Control"] == same.headers["Cache-Control"] == "no-cache"
    client.act(f"/users/{user}/follow", client.user())
    changed = client.get(url)
    assert changed.headers["ETag"] != first.headers["ETag"]
    known["X-Min-Position"] = str(client.position)
    assert system.read.get(url, headers=known).content == changed.content


def test_a_long_list_is_compressed_on_the_wire_and_a_tweet_is_not(system: System) -> None:
    """httpx asks for gzip by itself, and undoes it."""
    client = Client(system)
    user = client.user()
    tweets = [client.tweet(user, f"tweet {number}") for number in range(10)]
    page, tweet = client.get(f"/users/{user}/tweets"), client.get(f"/tweets/{tweets[0]}")
    plain = system.read.get(f"/users/{user}/tweets", headers={"Accept-Encoding": "identity"})
    assert (page.headers["Content-Encoding"], page.headers["Vary"]) == ("gzip", "Accept-Encoding")
    assert page.num_bytes_downloaded < plain.num_bytes_downloaded / 2
    assert page.json() == plain.json()
    assert not {"Content-Encoding", "Vary"} & tweet.headers.keys()
