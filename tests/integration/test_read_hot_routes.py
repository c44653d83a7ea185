"""Hot reads are answered as the framework answers them: over HTTP, each request is sent to both.

The framework gets it by a parameter that no route knows, which leaves hot routes out and changes nothing else; and in
another reader, that keeps nothing, or it would answer what the hot route has kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from socket import create_connection
from typing import NamedTuple
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.ids import POSITION_MAX
from tests.support.armed import arm, disarm, struck_in
from tests.support.ports import HOST
from tests.support.process import ServiceProcess
from tests.support.system import System
from tests.support.wait import eventually

PARAMETER_OF_NOBODY = "x=1"
Headers = tuple[tuple[str, str], ...]
Asked = tuple[int, list[tuple[str, str]], bytes]


class World(NamedTuple):
    """What there is to be asked for. ``connection`` is to a reader, ``uncached`` to one without a cache."""

    connection: HTTPConnection
    uncached: HTTPConnection
    ids: list[str]
    positions: list[str]
    etags: list[str]
    port: int


@pytest.fixture(scope="module")
def uncached(system: System) -> Iterator[ServiceProcess]:
    """A second reader of the shared system, without a cache."""
    with closing(system.new_reader("uncached", {"CACHE_BYTES_MAX": "0"})) as reader:
        reader.start()
        reader.wait_ready()
        yield reader


@pytest.fixture
def world(system: System, uncached: ServiceProcess) -> Iterator[World]:
    """A user with a few tweets that is followed, one without, and a deleted tweet."""
    ada, bob = (system.create_user(f"u{uuid4().hex[:12]}").json()["id"] for _ in range(2))
    tweets = [system.create_tweet(ada, "hot " * 60).json()["id"] for _ in range(12)]
    system.write.post(f"/users/{ada}/follow", json={"user_id": bob}).raise_for_status()
    deletion = system.write.request("DELETE", f"/tweets/{tweets[0]}", json={"user_id": ada})
    position = int(deletion.raise_for_status().headers["X-Log-Position"])
    system.wait_until_applied(position)
    eventually(lambda: int(uncached.http.get("/").headers["X-Log-Position"]) >= position)
    paths = [f"/tweets/{tweets[1]}", f"/users/{ada}/tweets", f"/users/{bob}/home"]
    etags = [system.read.get(path, headers={"Accept-Encoding": "identity"}).headers["ETag"] for path in paths]
    cached, kept_nothing = (HTTPConnection(HOST, each.port, timeout=10) for each in (system.readers[0], uncached))
    yield World(
        cached,
        kept_nothing,
        [str(number) for number in (ada, bob, tweets[0], tweets[1], tweets[5])],
        [str(number) for number in (0, 1, tweets[1], position)],
        etags,
        system.readers[0].port,
    )
    cached.close()
    kept_nothing.close()


def ask(connection: HTTPConnection, method: str, target: str, headers: Headers) -> Asked:
    """Status, headers and body; the connection stays open."""
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    connection.putheader("Host", "hot")
    for name, value in (("X-Request-Id", "same"), *headers):
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    kept = [(name, value) for name, value in answer.getheaders() if name != "date"]
    return answer.status, kept, answer.read()


ODD_IDS = st.sampled_from(["0", "-1", "+1", "1_0", "1.0", "%31", "007", "", "me", str(POSITION_MAX + 1), "9" * 30])
NUMBERS = st.one_of(st.integers(0, 120).map(str), st.sampled_from(["", "x", "-1", "10001", "1e2", "%35", "1%200"]))


@st.composite
def queries(draw: st.DrawFn, ids: st.SearchStrategy[str]) -> str:
    """Query strings, good and bad."""
    names = draw(st.lists(st.sampled_from(["limit", "offset", "max_id", "since_id", "Limit", "l%69mit"]), max_size=3))
    return "&".join(f"{name}={draw(ids if name.endswith('_id') else NUMBERS)}" for name in names)


@st.composite
def header_lists(draw: st.DrawFn, world: World) -> Headers:
    """Headers that change an answer, sometimes twice, and some that do not."""
    etags = st.sampled_from([*world.etags, *(etag.removeprefix("W/") for etag in world.etags), "*", '"x"', ""])
    choices = st.one_of(
        st.tuples(st.just("If-None-Match"), etags),
        st.tuples(st.just("If-None-Match"), st.tuples(etags, etags).map(", ".join)),
        st.tuples(st.just("Accept-Encoding"), st.sampled_from(["gzip", "br, gzip;q=0.5", "gzip;q=0", "*", ""])),
        st.tuples(st.just("X-Min-Position"), st.sampled_from([*world.positions, "x", "-1", "", str(POSITION_MAX)])),
        st.tuples(st.just("Authorization"), st.sampled_from(["Bearer x", "x"])),
        st.tuples(st.sampled_from(["Accept", "Cookie", "Origin"]), st.just("x")),
    )
    return tuple(draw(st.lists(choices, max_size=3)))


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_hot_route_and_the_framework_give_the_same_answer(world: World, data: st.DataObject) -> None:
    """Whatever the method, the id, the query and the headers: status, headers in their order, and body."""
    ids = st.one_of(st.sampled_from(world.ids), ODD_IDS)
    path = data.draw(st.sampled_from(["/tweets/{}", "/users/{}/tweets", "/users/{}/home", "/tweets/{}/", "/users/{}"]))
    path = path.format(data.draw(ids))
    query = data.draw(queries(st.one_of(st.sampled_from(world.ids), NUMBERS))) if path.startswith("/users") else ""
    method = data.draw(st.sampled_from(["GET", "GET", "GET", "HEAD", "POST", "DELETE"]))
    headers = data.draw(header_lists(world))
    hot = [ask(world.connection, method, f"{path}?{query}" if query else path, headers) for _ in range(3)]
    target = f"{path}?{query}&{PARAMETER_OF_NOBODY}" if query else f"{path}?{PARAMETER_OF_NOBODY}"
    assert hot == [ask(world.uncached, method, target, headers)] * 3


@pytest.mark.parametrize(
    "form",
    [
        "GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET {} HTTP/1.0\r\n\r\n",
        "HEAD {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET {0} HTTP/1.1\r\nHost: x\r\n\r\nGET {0} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}",
    ],
)
def test_on_the_wire_both_keep_and_close_connections_alike(world: World, form: str) -> None:
    """A hot answer is written past the server's own ``send``; what that does with a connection is done all the same."""
    path = f"/tweets/{world.ids[3]}"
    hot, framework = (wire(world.port, form.format(target)) for target in (path, f"{path}?{PARAMETER_OF_NOBODY}"))
    assert hot == framework
    assert hot[0].startswith("HTTP/1.1 200 OK")


def wire(port: int, request: str) -> list[str]:
    """The lines that the server sends until it closes, but for date and request id."""
    with create_connection((HOST, port), timeout=10) as connection:
        connection.sendall(request.encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    return [line for line in received.decode().split("\r\n") if not line.startswith(("date:", "x-request-id:"))]


def test_each_header_that_changes_a_hot_answer_does_so_both_ways(world: World) -> None:
    """One by one on what is there: generated requests meet few of these where a hot route would answer."""
    headers = [
        *(("If-None-Match", etag) for etag in (*world.etags, "*", '"x"')),
        *(("X-Min-Position", text) for text in (*world.positions, "", "x", "-1", "1_0", str(POSITION_MAX))),
        *(("Accept-Encoding", coding) for coding in ("gzip", "gzip;q=0", "*")),
    ]
    for path in (f"/tweets/{world.ids[3]}", f"/users/{world.ids[0]}/tweets", f"/users/{world.ids[1]}/home"):
        for header in headers:
            hot = [ask(world.connection, "GET", path, (header,)) for _ in range(3)]
            assert hot == [ask(world.uncached, "GET", f"{path}?{PARAMETER_OF_NOBODY}", (header,))] * 3, (path, header)


def test_a_tweet_that_is_too_new_for_the_rows_is_the_same_both_ways(system: System) -> None:
    """The framework's route asks Redis, and a hot one does so without it; neither finds what is not there."""
    with closing(system.new_reader("late", {"READ_STORE": "replica"})) as late:
        late.command[1:] = ["-m", "tests.support.armed", late.command[-1]]
        late.start()
        late.wait_ready()
        arm(late.directory, "replica:before_commit", "hold")
        author = system.create_user(f"u{uuid4().hex[:12]}").json()["id"]
        tweet_id = system.create_tweet(author, "new").json()["id"]
        eventually(lambda: struck_in(late.directory))
        applied = late.http.get("/").headers["X-Log-Position"]
        connection = HTTPConnection(HOST, late.port, timeout=10)
        ask(connection, "GET", f"/tweets/{tweet_id}", ())
        statuses = []
        for item_id in (tweet_id, tweet_id + 1):
            for headers in ((), (("X-Min-Position", applied),), (("If-None-Match", "*"),)):
                hot = [ask(connection, "GET", f"/tweets/{item_id}", headers) for _ in range(2)]
                assert hot == [ask(connection, "GET", f"/tweets/{item_id}?{PARAMETER_OF_NOBODY}", headers)] * 2
                statuses.append(hot[0][0])
        assert late.http.get("/").headers["X-Log-Position"] == applied
        connection.close()
        disarm(late.directory)
    assert statuses == [200, 200, 304, 404, 404, 404]


def test_a_position_that_is_not_reached_is_the_same_both_ways(world: World) -> None:
    """A 503 after as long."""
    path, above = f"/tweets/{world.ids[3]}", (("X-Min-Position", str(int(world.positions[-1]) + 4096)),)
    ask(world.connection, "GET", path, (("X-Min-Position", "0"),))
    hot = ask(world.connection, "GET", path, above)
    assert hot == ask(world.uncached, "GET", f"{path}?{PARAMETER_OF_NOBODY}", above)
    assert hot[0] == 503
