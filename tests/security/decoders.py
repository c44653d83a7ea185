"""Everything that decodes what others have written: what it may be given, and how it may refuse."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import ValidationError

from services.common import archive, backup, events
from services.common.auth.errors import KeysUnfit
from services.common.auth.header import bearer_token
from services.common.auth.signing_keys import SigningKey, encode_keys, parse_keys
from services.common.auth.tokens import Claims, decode, encode
from services.common.errors import BehindHorizon, ClientError, OwnerUnavailable, StorageUnfit
from services.common.events import Malformed, TweetCreated, UserCreated, UserUpdated
from services.common.log import entry
from services.common.log.entry import Entry
from services.common.log.redis_url import check_redis_url
from services.common.web.body import check_json
from services.common.web.client_address import client_address
from services.common.web.hot import plain_number
from services.db_updater import reports
from services.db_updater.reports import RecoverySummary
from services.read import hot_routes, routes
from services.read.snapshot_source import SnapshotSource
from services.write import commands
from services.write import hot_routes as hot_writes
from services.write.idempotency import check_key


@dataclass(frozen=True, slots=True)
class Decoder:
    """``decode`` takes any of ``inputs`` and returns, or raises one of ``refusals``: nothing else, and soon."""

    name: str
    inputs: SearchStrategy[Any]
    decode: Callable[[Any], object]
    refusals: tuple[type[Exception], ...] = ()


KEY: Final = SigningKey("a-key", b"k" * 32, 0)
KEYS: Final = parse_keys(encode_keys([KEY]))
ENTRIES: Final = [
    Entry(5, 0, "tweet_created", 1, events.encode(TweetCreated(user_id=7, content="na\u00efve"))),
    Entry(9, 5, "user_created", 1, events.encode(UserCreated(username="ann"))),
]
SUMMARY: Final = RecoverySummary(epoch=2, reason="r", base_position=9, log_head=5, reported_position=9, unix_ms=1)
RECORD: Final = backup.FileRecord(3, "0" * 64)
MANIFEST: Final = backup.Manifest(1, "now", 1.5, 9, 9, 1, 2, 1, {"twitter.db": RECORD, "archive/1.segment": RECORD})

digits = st.one_of(
    st.integers(-(2**70), 2**70).map(lambda number: b"%d" % number),
    st.sampled_from(
        [b"9" * 5000, b"0" * 5000, b"", b"-", b"1_0", b"+1", b" 1", b"1\n", "\u0661".encode(), b"\xff", b"1.0"]
    ),
)


@st.composite
def spoiled(draw: st.DrawFn, *good: bytes) -> bytes:
    """Something good with a few bytes changed, cut out, put in or said twice; or any bytes at all."""
    content = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 16)))
        content[start:end] = draw(
            st.one_of(st.binary(max_size=12), digits, st.just(bytes(content[start:end]) * 2), st.just(b""))
        )
    return bytes(content)


@st.composite
def json_near(draw: st.DrawFn, *good: bytes) -> bytes:
    """JSON that is nearly good: a value of it is another one, a name is new; or it is spoiled."""
    if draw(st.booleans()):
        return draw(spoiled(*good))
    document = msgspec.json.decode(draw(st.sampled_from(good)))
    scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text())
    value = st.recursive(scalars, lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside), max_leaves=8)
    if isinstance(document, dict):
        for name in draw(st.lists(st.sampled_from([*document, "x"]) | st.text(), max_size=3)):
            document[name] = draw(value)
    return msgspec.json.encode(document, enc_hook=str)


def _in_file(name: str, read: Callable[[Path], object], content: bytes) -> object:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_bytes(content)
        return read(path)


def _segment(entries: list[Entry]) -> bytes:
    return archive._frame(entries[:1]) + archive._frame(entries[1:])


def _framed(payload: bytes) -> bytes:
    """A frame whose checksum is right, whatever it holds."""
    header = archive._HEADER.pack(archive.MAGIC, 0, 9, 2, len(payload))
    return header + archive._CHECKSUM.pack(zlib.crc32(payload, zlib.crc32(header))) + payload


def _event(name_and_payload: tuple[str, bytes]) -> None:
    event = events.decode(*name_and_payload)
    assert events.decode(event.name, events.encode(event)) == event


def _token(token: str) -> None:
    claims = decode(token, KEYS)
    assert decode(encode(claims, KEY), KEYS) == claims


def _entry(fields: dict[bytes, bytes]) -> None:
    parsed = entry.parse(b"1763818000000-3", fields)
    assert entry.parse_pairs(b"1763818000000-3", [part for field in fields.items() for part in field]) == parsed
    assert -1 <= parsed.prev < 2**63
    assert 0 <= parsed.version < 2**63
    msgspec.msgpack.encode(parsed)


def _write_body(body: bytes) -> None:
    """What the first look lets through every command takes or refuses; hot routes take nothing that they refuse."""
    check_json(body, b"application/json")
    for command in COMMANDS:
        try:
            command.model_validate_json(body)
        except ValidationError:
            continue
    hot = hot_writes._decoded(hot_writes._acts, body)
    if hot is not None:
        assert commands.Act.model_validate_json(body).user_id == hot.user_id


COMMANDS: Final = (
    commands.CreateUser,
    commands.UpdateAccount,
    commands.LogIn,
    commands.Refresh,
    commands.CreateTweet,
    commands.Act,
    commands.ActAs,
)
BODIES: Final = (
    b'{"username":"ada","email":"ada@example.org","password":"12345678"}',
    b'{"name":"Ada","bio":"First.","email":"ada@example.org","password":"12345678"}',
    b'{"content":"hello","user_id":7,"in_reply_to_id":8,"quote_of_id":9}',
    b'{"refresh_token":"a.b.c"}',
    b'{"user_id":7}',
)
PAYLOADS: Final = tuple(
    events.encode(event)
    for event in (TweetCreated(user_id=7, content="x"), UserCreated(username="ann"), UserUpdated(user_id=7))
)
SNAPSHOT_HEADERS: Final = ("X-Snapshot-Position", "X-Snapshot-SHA256", "X-Projection-Version")
TOKEN: Final = encode(Claims(7, "access", 5, 1_000, 1_060, "a-token"), KEY)

DECODERS: Final = (
    Decoder(
        "events of the log",
        st.tuples(st.sampled_from([*events.EVENT_TYPES, "", "x"]), json_near(*PAYLOADS)),
        _event,
        (Malformed,),
    ),
    Decoder(
        "entries of the log",
        st.dictionaries(st.sampled_from([b"e", b"v", b"p", b"d", b"i"]), digits | st.binary()),
        _entry,
    ),
    Decoder("bodies", json_near(*BODIES), _write_body, (ClientError,)),
    Decoder("tokens", spoiled(TOKEN.encode()).map(lambda token: token.decode("latin-1")), _token, (ClientError,)),
    Decoder(
        "Authorization",
        st.none() | st.binary() | spoiled(b"Bearer a.b.c"),
        bearer_token,
        (ClientError,),
    ),
    Decoder("key files", json_near(encode_keys([KEY])), parse_keys, (KeysUnfit,)),
    Decoder(
        "positions", digits.map(lambda text: text.decode("latin-1")) | st.text(), routes._parse_position, (ClientError,)
    ),
    Decoder("numbers of hot routes", digits, lambda text: plain_number(text, 1, 2**53)),
    Decoder(
        "cursors",
        spoiled(b"limit=10&max_id=7&since_id=3&offset=2"),
        partial(hot_routes._page.__wrapped__, limit_default=10),
    ),
    Decoder("idempotency keys", st.text(), check_key, (ClientError,)),
    Decoder(
        "addresses",
        st.text() | spoiled(b"2001:db8::1%eth0").map(lambda a: a.decode("latin-1")),
        lambda text: client_address({"client": (text, 1)}),
    ),
    Decoder(
        "URLs of Redis",
        st.text() | spoiled(b"redis+sentinel://me:p@one:1,two/mymaster/3?a=b").map(lambda u: u.decode("latin-1")),
        check_redis_url,
        (ValueError,),
    ),
    Decoder(
        "headers of a snapshot",
        st.dictionaries(st.sampled_from(SNAPSHOT_HEADERS), digits.map(lambda text: text.decode("latin-1"))),
        lambda headers: SnapshotSource("http://owner")._announced(httpx.Headers(headers, encoding="latin-1"), 0),
        (OwnerUnavailable, UnicodeEncodeError),
    ),
    Decoder(
        "segments of the archive",
        st.one_of(
            spoiled(_segment(ENTRIES)),
            spoiled(zlib.compress(archive._encoder.encode(ENTRIES))).map(_framed),
            spoiled(archive._encoder.encode(ENTRIES), archive._encoder.encode([])).map(zlib.compress).map(_framed),
        ),
        partial(_in_file, "0000000000000005.segment", lambda path: list(archive.read_archive(path.parent))),
        (StorageUnfit, BehindHorizon),
    ),
    Decoder(
        "manifests of backups",
        json_near(msgspec.json.encode(MANIFEST)),
        partial(_in_file, backup.MANIFEST, lambda path: backup.verify(backup.read_backup(path.parent))),
        (StorageUnfit,),
    ),
    Decoder(
        "reports of recoveries",
        json_near(msgspec.json.encode(SUMMARY)) | st.just(b""),
        partial(_in_file, "epoch-000002-log-5.ndjson", reports._summary),
        (StorageUnfit,),
    ),
)
