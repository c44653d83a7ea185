"""The file of keys may change at any moment, be half-written or gone: good keys stay in use, secrets stay secret."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from services.common.auth import AuthMetrics, Keyring, KeysUnfit, add_key
from services.common.auth.key_file import FILE_BYTES_MAX, SPREAD_SECONDS
from services.common.auth.keyring import CHECK_SECONDS
from services.common.auth.signing_keys import KEYS_MAX, KeySet, SigningKey, encode_keys, parse_keys
from services.common.auth.tokens import LEEWAY_SECONDS, LIFE_SECONDS

NOW = 1_795_353_660
OLD, NEW = SigningKey("old", b"o" * 32, 100), SigningKey("new", b"n" * 32, 200)


class Watched:
    """A keyring over a file, in a time that stands still."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.seconds = 0.0
        self.path = path
        path.write_bytes(content)
        self.registry = CollectorRegistry()
        self.keyring = Keyring(path, AuthMetrics(self.registry), lambda: self.seconds)

    def look(self) -> KeySet:
        """The keys in use after the next look at the file."""
        self.seconds += CHECK_SECONDS
        return self.keyring.current()

    def is_refused(self) -> bool:
        """What the metric says of the file."""
        return bool(self.registry.get_sample_value("auth_key_file_refused"))


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    """A keyring over a file with the old key."""
    return Watched(tmp_path / "keys.json", encode_keys([OLD]))


def jwk(**changes: Any) -> dict[str, Any]:
    """A good key as it is in a file, with changes."""
    return {"kty": "oct", "kid": "k", "k": "c2VjcmV0" * 6, "signs_from": 0} | changes


def key_file(*jwks: dict[str, Any]) -> bytes:
    """The content of a file with these keys."""
    return json.dumps({"keys": jwks}).encode()


def test_keys_survive_their_file() -> None:
    """What is written is what is read, in the order in which the keys begin to sign."""
    assert parse_keys(encode_keys([NEW, OLD])) == KeySet((OLD, NEW))


def test_the_latest_key_whose_time_has_come_signs() -> None:
    """And the first one, if a clock is so wrong that no key's time has come."""
    keys = KeySet((OLD, NEW))
    assert [keys.signer(now).kid for now in (0, 100, 199.9, 200, 1e12)] == ["old", "old", "old", "new", "new"]


def test_members_that_other_tools_add_are_ignored() -> None:
    """RFC 7517 wants that: `use`, `alg` and `key_ops` change nothing here."""
    assert parse_keys(key_file(jwk(use="sig", alg="HS256", key_ops=["sign"]))).find("k")


UNFIT: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a whole file"),
    "a_bare_secret": (b"b29vb29vb29vb29vb29vb29vb29vb29v", "not a whole file"),
    "not_utf8": (b'{"keys": [{"kid": "\xff"}]}', "not a whole file"),
    "nested": (b"[" * 60_000, "not a whole file"),
    "no_keys": (key_file(), "1 to"),
    "too_many": (key_file(*(jwk(kid=str(number)) for number in range(KEYS_MAX + 1))), "1 to"),
    "twice": (key_file(jwk(), jwk()), "same kid"),
    "another_type": (key_file(jwk(kty="RSA")), "kty"),
    "no_kid": (key_file(jwk(kid="")), "kid"),
    "strange_kid": (key_file(jwk(kid="a b")), "kid"),
    "long_kid": (key_file(jwk(kid="k" * 33)), "kid"),
    "empty_secret": (key_file(jwk(k="")), "at least 32"),
    "short_secret": (key_file(jwk(k=base64.urlsafe_b64encode(b"x" * 31).decode())), "at least 32"),
    "secret_not_base64": (key_file(jwk(k="c2VjcmV0!" * 6)), "random bytes"),
    "secret_not_ascii": (key_file(jwk(k="é" * 44)), "random bytes"),
    "secret_of_another_kind": (
        key_file(jwk(k=base64.urlsafe_b64encode(b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC7").decode())),
        "another kind",
    ),
    "no_time": (key_file({name: value for name, value in jwk().items() if name != "signs_from"}), "signs_from"),
    "time_in_words": (key_file(jwk(signs_from="now")), "signs_from"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_an_unfit_file_is_refused_with_its_reason(watched: Watched, name: str) -> None:
    """At the start it is an error, later the old keys stay and the operator is told, once."""
    content, reason = UNFIT[name]
    with pytest.raises(KeysUnfit, match=reason):
        parse_keys(content)
    watched.path.write_bytes(content)
    with capture_logs() as logs:
        assert watched.look().keys == (OLD,)
        assert watched.look().keys == (OLD,)
    assert [entry["event"] for entry in logs] == ["auth_key_file_refused"]
    assert watched.is_refused()


def test_a_start_without_a_file_is_refused(tmp_path: Path) -> None:
    """There is nothing to go on with."""
    with pytest.raises(KeysUnfit, match="cannot be read"):
        Keyring(tmp_path / "missing.json", AuthMetrics(CollectorRegistry()))


def test_a_new_file_is_taken_without_a_restart_after_a_few_seconds(watched: Watched) -> None:
    """Not at once: between two looks the hot path does not touch the disk, and sees the same object."""
    before = watched.keyring.current()
    watched.path.write_bytes(encode_keys([OLD, NEW]))
    watched.seconds += CHECK_SECONDS - 0.1
    assert watched.keyring.current() is before
    assert watched.look().keys == (OLD, NEW)
    watched.path.write_bytes(encode_keys([NEW]))
    assert watched.keyring.current().keys == (OLD, NEW)
    assert watched.look() is watched.look()


def test_a_change_that_leaves_size_and_time_alone_is_seen(watched: Watched) -> None:
    """Two writes within a tick of the file system's clock look alike from outside."""
    before = watched.path.stat()
    watched.path.write_bytes(encode_keys([SigningKey("old", b"x" * 32, 100)]))
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert watched.look().keys[0].secret == b"x" * 32


def test_a_secret_that_kubernetes_replaces_is_followed(tmp_path: Path) -> None:
    """A kubelet turns the link `..data` to a new directory; the file itself never changes."""
    for name, keys in {"one": [OLD], "two": [OLD, NEW]}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.json").write_bytes(encode_keys(keys))
    link = tmp_path / "..data"
    link.symlink_to("one")
    path = tmp_path / "keys.json"
    path.symlink_to("..data/keys.json")
    watched = Watched(path, path.read_bytes())
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").replace(link)
    assert watched.look().keys == (OLD, NEW)


def test_a_half_written_file_changes_nothing_until_it_is_whole(watched: Watched) -> None:
    """Whoever writes in place is seen at any byte; then the old keys stay."""
    whole = encode_keys([OLD, NEW])
    for length in range(len(whole.rstrip())):
        watched.path.write_bytes(whole[:length])
        assert watched.look().keys == (OLD,)
        assert watched.is_refused()
    watched.path.write_bytes(whole)
    assert watched.look().keys == (OLD, NEW)
    assert not watched.is_refused()


def test_a_file_that_is_gone_comes_back(watched: Watched) -> None:
    """Gone, a directory, too large, and then the same again: all is well."""
    content = watched.path.read_bytes()
    watched.path.unlink()
    with capture_logs() as logs:
        assert watched.look().keys == (OLD,)
        watched.path.mkdir()
        assert watched.look().keys == (OLD,)
        watched.path.rmdir()
        watched.path.write_bytes(content + b" " * FILE_BYTES_MAX)
        assert watched.look().keys == (OLD,)
        assert watched.is_refused()
        watched.path.write_bytes(content)
        assert watched.look().keys == (OLD,)
        assert not watched.is_refused()
    assert [entry["log_level"] for entry in logs] == ["error"] * 3


def test_only_this_user_may_read_a_new_file(tmp_path: Path) -> None:
    """Whatever the umask says; and nothing else is left in the directory."""
    umask = os.umask(0)
    try:
        add_key(tmp_path / "new" / "keys.json", NOW)
        add_key(tmp_path / "new" / "keys.json", NOW)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "new" / "keys.json").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["keys.json"]


def test_a_second_key_waits_until_every_verifier_has_it(tmp_path: Path) -> None:
    """The first signs at once; the next only when the file has reached everybody."""
    first = add_key(tmp_path / "keys.json", NOW)
    second = add_key(tmp_path / "keys.json", NOW)
    keys = parse_keys((tmp_path / "keys.json").read_bytes())
    assert len(first.secret) == len(second.secret) == 32
    assert [keys.signer(NOW + seconds) for seconds in (0, SPREAD_SECONDS - 1, SPREAD_SECONDS)] == [first, first, second]


def test_a_key_is_dropped_when_its_last_token_has_expired(tmp_path: Path) -> None:
    """Rotated for years, the file stays small; rotated in haste, no living token loses its key."""
    path = tmp_path / "keys.json"
    first, second = add_key(path, NOW), add_key(path, NOW)
    last_token_expires = second.signs_from + LIFE_SECONDS["refresh"] + LEEWAY_SECONDS
    third = add_key(path, last_token_expires - 1)
    assert parse_keys(path.read_bytes()).keys == (first, second, third)
    fourth = add_key(path, last_token_expires)
    assert parse_keys(path.read_bytes()).keys == (second, third, fourth)


def test_an_unfit_file_is_not_overwritten(tmp_path: Path) -> None:
    """It may hold keys that somebody wants back."""
    path = tmp_path / "keys.json"
    path.write_bytes(b"{")
    with pytest.raises(KeysUnfit):
        add_key(path, NOW)
    assert path.read_bytes() == b"{"
    assert list(tmp_path.iterdir()) == [path]


def test_no_secret_is_in_a_repr_or_a_log(tmp_path: Path) -> None:
    """In whatever form: neither the bytes nor their base64."""
    key = SigningKey("k", b"a-secret-that-nobody-may-ever-see", 0)
    with capture_logs() as logs:
        watched = Watched(tmp_path / "keys.json", encode_keys([key]))
        watched.path.write_bytes(encode_keys([key])[:-4])
        keys = watched.look()
    said = repr([key, keys, watched.keyring, logs])
    assert "kids" in said
    assert "a-secret" not in said
    assert base64.b64encode(key.secret).decode()[:20] not in said


@given(
    content=st.binary(max_size=200) | st.builds(lambda jwks: json.dumps({"keys": jwks}).encode(), st.lists(st.none()))
)
def test_any_content_is_keys_or_unfit(content: bytes) -> None:
    """Nothing but KeysUnfit comes of a file, whatever is in it."""
    with pytest.raises(KeysUnfit):
        parse_keys(content)


@given(member=st.sampled_from(["kty", "kid", "k", "signs_from"]), value=st.text() | st.integers() | st.none())
def test_any_member_of_a_key_is_taken_or_refused_without_quoting_the_secret(member: str, value: Any) -> None:
    """One wrong member never shows another, or itself."""
    said = ""
    try:
        said = repr(parse_keys(key_file(jwk(**{member: value}))))
    except KeysUnfit as error:
        said = str(error)
    assert jwk()["k"] not in said
    assert "secretsecret" not in said
