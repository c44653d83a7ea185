"""A token is accepted only if a key of ours signed it, for this use, and its time and its user allow it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.common.auth import (
    AuthMetrics,
    Claims,
    Keyring,
    TokenIssuer,
    TokenKind,
    TokenVerifier,
    add_key,
    check_not_revoked,
)
from services.common.auth.keyring import CHECK_SECONDS
from services.common.auth.signing_keys import SigningKey, encode_keys, parse_keys
from services.common.auth.tokens import LEEWAY_SECONDS, LIFE_SECONDS, TOKEN_CHARS_MAX, encode
from services.common.errors import ClientError
from services.common.ids import POSITION_MAX

NOW = 1_795_353_660
USER, POSITION = 8_123_456_789_012_345, 8_200_000_000_000_000


class Rig:
    """An issuer and a verifier with a file of one key, at a time that stands still."""

    def __init__(self, directory: Path) -> None:
        self.seconds: float = NOW
        self.path = directory / "keys.json"
        self.key = add_key(self.path, NOW - 3600)
        self.registry = CollectorRegistry()
        self.keyring = Keyring(self.path, AuthMetrics(self.registry), self.now)
        self.issuer = TokenIssuer(self.keyring, self.now)
        self.verifier = TokenVerifier(self.keyring, AuthMetrics(CollectorRegistry()), self.now)

    def now(self) -> float:
        """Both the wall clock and the elapsed time of this world."""
        return self.seconds

    def verify(self, token: str, kind: TokenKind = "access") -> Claims:
        """What the verifier says; of an access token, in a header."""
        if kind == "refresh":
            return self.verifier.refresh(token)
        return self.verifier.bearer(b"Bearer " + token.encode("utf-8", "surrogatepass"))

    def refusal(self, token: str, kind: TokenKind = "access") -> str:
        """The code with which the verifier refuses; fails if it accepts or raises anything else."""
        with pytest.raises(ClientError) as caught:
            self.verify(token, kind)
        assert caught.value.status == 401
        return caught.value.code

    def forge(self, header: Any = None, payload: Any = None, hash_name: str = "sha256") -> str:
        """A token with any header and payload, under a good signature of our key."""
        header = self.header() if header is None else header
        signed = f"{segment(header)}.{segment(self.payload() if payload is None else payload)}"
        return f"{signed}.{base64url(hmac.digest(self.key.secret, signed.encode(), hash_name))}"

    def header(self, **changes: Any) -> dict[str, Any]:
        """The header of our tokens, with changes."""
        return {"alg": "HS256", "kid": self.key.kid, "typ": "JWT"} | changes

    def payload(self, **changes: Any) -> dict[str, Any]:
        """The payload of a good access token, with changes."""
        fixed = {"iss": "twitter-clone", "aud": "twitter-clone", "typ": "access", "jti": "a"}
        return {**fixed, "sub": str(USER), "pos": POSITION, "iat": NOW, "exp": NOW + 60} | changes

    def replace_keys(self, *keys: SigningKey) -> None:
        """Put these keys in the file and let the keyring look."""
        self.path.write_bytes(encode_keys(keys))
        self.seconds += CHECK_SECONDS


def base64url(content: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def segment(content: Any) -> str:
    """A segment of a token: bytes as they are, anything else as JSON."""
    return base64url(content if isinstance(content, bytes) else json.dumps(content).encode())


def without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    """The claims but one."""
    return {key: value for key, value in claims.items() if key != name}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A rig of the test's own."""
    return Rig(tmp_path)


@pytest.fixture(scope="module")
def still_rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """A rig that is only asked, never changed."""
    return Rig(tmp_path_factory.mktemp("auth"))


def test_what_was_issued_is_verified(rig: Rig) -> None:
    """A token says who, of what kind, since when, until when and at which position."""
    claims = rig.verify(rig.issuer.issue("access", USER, POSITION))
    assert (claims.user_id, claims.kind, claims.position) == (USER, "access", POSITION)
    assert (claims.issued_at, claims.expires_at) == (NOW, NOW + 15 * 60)
    refresh = rig.verify(rig.issuer.issue("refresh", USER, POSITION), "refresh")
    assert refresh.expires_at == NOW + 90 * 24 * 3600


def test_no_two_tokens_are_equal(rig: Rig) -> None:
    """Tokens of one user and one second still differ."""
    assert rig.issuer.issue("access", USER, POSITION) != rig.issuer.issue("access", USER, POSITION)


def test_a_good_token_made_by_hand_is_accepted(still_rig: Rig) -> None:
    """The forgeries below differ from this one in nothing but what they are named for."""
    assert still_rig.verify(still_rig.forge()).user_id == USER


def test_the_largest_token_we_can_issue_is_not_too_long() -> None:
    """The limit on a token's length refuses none of ours."""
    claims = Claims(POSITION_MAX, "refresh", POSITION_MAX, 2**53 - LIFE_SECONDS["refresh"], 2**53, "j" * 16)
    assert len(encode(claims, SigningKey("k" * 32, b"s" * 64, 0))) <= TOKEN_CHARS_MAX


FORGERIES: dict[str, tuple[Callable[[Rig], str], str]] = {
    "empty": (lambda _: "", "token_malformed"),
    "a_word": (lambda _: "token", "token_malformed"),
    "two_segments": (lambda _: "a.b", "token_malformed"),
    "four_segments": (lambda rig: rig.forge() + ".x", "token_malformed"),
    "segments_of_nonsense": (lambda _: "a.b.c", "token_malformed"),
    "not_ascii": (lambda rig: rig.forge() + "é", "token_malformed"),
    "lone_surrogate": (lambda rig: rig.forge() + "\ud800", "token_malformed"),
    "final_newline": (lambda rig: rig.forge() + "\n", "token_malformed"),
    "padding": (lambda rig: rig.forge() + "=", "token_malformed"),
    "too_long": (lambda rig: rig.forge(payload=rig.payload(jti="j" * 200)), "token_malformed"),
    "huge": (lambda _: "a" * 5_000_000, "token_malformed"),
    "header_not_json": (lambda rig: rig.forge(header=b"{"), "token_malformed"),
    "header_not_utf8": (lambda rig: rig.forge(header=b"\xff\xfe\xfd"), "token_malformed"),
    "header_no_object": (lambda rig: rig.forge(header=[]), "token_malformed"),
    "header_nested": (lambda rig: rig.forge(header=b"[" * 160, payload=b"{}"), "token_malformed"),
    "kid_a_number": (lambda rig: rig.forge(rig.header(kid=5)), "token_malformed"),
    "kid_a_list": (lambda rig: rig.forge(rig.header(kid=[])), "token_malformed"),
    "unknown_critical_extension": (lambda rig: rig.forge(rig.header(crit=["x"], x=1)), "token_malformed"),
    "detached_payload": (lambda rig: rig.forge(rig.header(crit=["b64"], b64=False)), "token_malformed"),
    "kid_missing": (lambda rig: rig.forge(without(rig.header(), "kid")), "token_signature"),
    "kid_unknown": (lambda rig: rig.forge(rig.header(kid="another")), "token_signature"),
    "kid_a_path": (lambda rig: rig.forge(rig.header(kid="../../dev/null")), "token_signature"),
    "alg_missing": (lambda rig: rig.forge(without(rig.header(), "alg")), "token_signature"),
    "alg_none": (lambda rig: rig.forge(rig.header(alg="none")), "token_signature"),
    "alg_none_unsigned": (
        lambda rig: rig.forge(rig.header(alg="none")).rpartition(".")[0] + ".",
        "token_signature",
    ),
    "alg_in_lower_case": (lambda rig: rig.forge(rig.header(alg="hs256")), "token_signature"),
    "alg_hs384": (lambda rig: rig.forge(rig.header(alg="HS384"), hash_name="sha384"), "token_signature"),
    "alg_hs512": (lambda rig: rig.forge(rig.header(alg="HS512"), hash_name="sha512"), "token_signature"),
    "alg_of_public_keys": (lambda rig: rig.forge(rig.header(alg="RS256")), "token_signature"),
    "alg_a_list": (lambda rig: rig.forge(rig.header(alg=["HS256"])), "token_signature"),
    "another_hash": (lambda rig: rig.forge(hash_name="sha384"), "token_signature"),
    "unsigned": (lambda rig: rig.forge().rpartition(".")[0] + ".", "token_signature"),
    "shortened_signature": (lambda rig: rig.forge()[:-3], "token_signature"),
    "signed_by_another": (
        lambda rig: encode(rig.verify(rig.forge()), SigningKey(rig.key.kid, b"x" * 32, 0)),
        "token_signature",
    ),
    "payload_exchanged": (
        lambda rig: ".".join([rig.forge().split(".")[0], segment(rig.payload(sub="1")), rig.forge().split(".")[2]]),
        "token_signature",
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_token_is_refused(still_rig: Rig, name: str) -> None:
    """Only HS256 under a key of ours counts; nothing else is even parsed further."""
    make, code = FORGERIES[name]
    assert still_rig.refusal(make(still_rig)) == code


STRANGE_CLAIMS: dict[str, list[Any]] = {
    "iss": ["another", "", None, ["twitter-clone"]],
    "aud": ["another", "", None, ["twitter-clone"]],
    "sub": [
        USER,
        7.0,
        None,
        "",
        "0",
        "-1",
        "+1",
        "007",
        " 7",
        "7\n",
        "1_0",
        "7.0",
        "\u0661",
        "abc",
        str(2**53),
        "9" * 99,
    ],
    "typ": ["", "id", "Access", None, 1],
    "pos": [-1, 2**53, "7", 7.5, None, True],
    "iat": ["7", None, -1, 7.5, NOW - 900, NOW + 60, NOW + 61],
    "exp": ["7", None, -1, NOW + 59.5, NOW, NOW + 901, 2**63, 10**99],
    "jti": [None, "", 7, "j" * 65],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in STRANGE_CLAIMS.items() for value in values]
)
def test_a_signed_claim_we_would_not_make_is_refused(still_rig: Rig, name: str, value: Any) -> None:
    """A key used elsewhere too, or by a faulty tool, signs for nobody here, nor for longer than we ever would."""
    assert still_rig.refusal(still_rig.forge(payload=still_rig.payload(**{name: value}))) == "token_claims"


@pytest.mark.parametrize("name", list(STRANGE_CLAIMS))
def test_every_claim_is_required(still_rig: Rig, name: str) -> None:
    """No claim has a default."""
    assert still_rig.refusal(still_rig.forge(payload=without(still_rig.payload(), name))) == "token_claims"


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xff", b"null", b"[]", b'"x"', b"[" * 200, b'{"exp":NaN}', b'{"exp":1e999}']
)
def test_a_signed_payload_that_is_no_set_of_claims_is_refused(still_rig: Rig, payload: bytes) -> None:
    """Even the holder of a key cannot make the verifier fail."""
    assert still_rig.refusal(still_rig.forge(payload=payload)) in {"token_claims", "token_malformed"}


def test_a_token_of_the_other_kind_is_refused(rig: Rig) -> None:
    """A refresh token opens nothing but the refresh, an access token everything but that."""
    assert rig.refusal(rig.issuer.issue("refresh", USER, POSITION), "access") == "token_kind"
    assert rig.refusal(rig.issuer.issue("access", USER, POSITION), "refresh") == "token_kind"


@pytest.mark.parametrize("kind", ["access", "refresh"])
@pytest.mark.parametrize("is_remembered", [True, False])
def test_a_token_ends_when_it_says(rig: Rig, kind: TokenKind, is_remembered: bool) -> None:
    """To the second, with the leeway, also if it has been verified before."""
    token = rig.issuer.issue(kind, USER, POSITION)
    rig.seconds += LIFE_SECONDS[kind] + LEEWAY_SECONDS - 1
    if is_remembered:
        rig.verify(token, kind)
    rig.seconds += 1
    assert rig.refusal(token, kind) == "token_expired"


def test_a_token_from_the_future_is_refused(rig: Rig) -> None:
    """What was issued while some clock was a year ahead is not valid for that year."""
    rig.seconds = NOW + 365 * 24 * 3600
    token = rig.issuer.issue("access", USER, POSITION)
    rig.seconds = NOW
    assert rig.refusal(token) == "token_early"


def test_clocks_may_differ_by_the_leeway(rig: Rig) -> None:
    """A token is accepted by a machine whose clock is a little behind the issuer's."""
    token = rig.issuer.issue("access", USER, POSITION)
    rig.seconds -= LEEWAY_SECONDS
    assert rig.verify(token).user_id == USER


def test_a_revocation_ends_the_tokens_issued_before_it(rig: Rig) -> None:
    """Those issued at a position below it; not those issued at it or later. Who reads the credentials asks."""
    claims = rig.verify(rig.issuer.issue("refresh", USER, POSITION), "refresh")
    check_not_revoked(claims, 0)
    check_not_revoked(claims, POSITION)
    with pytest.raises(ClientError) as caught:
        check_not_revoked(claims, POSITION + 1)
    assert (caught.value.status, caught.value.code) == (401, "token_revoked")


def test_refusals_are_counted_by_their_code(rig: Rig) -> None:
    """Many of one code tell an operator of an attack or of a rotation gone wrong."""
    registry = CollectorRegistry()
    verifier = TokenVerifier(rig.keyring, AuthMetrics(registry), rig.now)
    verifier.bearer(b"Bearer " + rig.forge().encode())
    with pytest.raises(ClientError):
        verifier.bearer(b"Bearer x")
    with pytest.raises(ClientError):
        verifier.refresh("x")
    with pytest.raises(ClientError):
        verifier.look_at(b"x")
    assert registry.get_sample_value("auth_refusals_total", {"code": "token_malformed"}) == 2


def test_old_tokens_stay_good_and_new_ones_are_signed_by_the_new_key(rig: Rig) -> None:
    """A rotation that nobody notices, without a restart."""
    old = rig.issuer.issue("refresh", USER, POSITION)
    rig.replace_keys(rig.key, SigningKey("new", b"n" * 32, NOW + 60))
    assert parse_keys(rig.path.read_bytes()).find("new")
    early = rig.issuer.issue("refresh", USER, POSITION)
    rig.seconds = NOW + 60
    late = rig.issuer.issue("refresh", USER, POSITION)
    assert [kid_of(token) for token in (old, early, late)] == [rig.key.kid, rig.key.kid, "new"]
    for token in (old, early, late):
        assert rig.verify(token, "refresh").user_id == USER


@pytest.mark.parametrize("is_remembered", [True, False])
def test_the_tokens_of_a_key_that_was_taken_out_are_refused(rig: Rig, is_remembered: bool) -> None:
    """A leaked key is worth nothing once it is out of the file, also for tokens verified before."""
    token = rig.issuer.issue("access", USER, POSITION)
    if is_remembered:
        rig.verify(token)
    rig.replace_keys(SigningKey("new", b"n" * 32, 0))
    assert rig.refusal(token) == "token_signature"


def test_another_secret_under_an_old_name_ends_the_old_tokens(rig: Rig) -> None:
    """A key is its secret, not its name."""
    token = rig.issuer.issue("access", USER, POSITION)
    rig.verify(token)
    rig.replace_keys(SigningKey(rig.key.kid, b"n" * 32, 0))
    assert rig.refusal(token) == "token_signature"


def kid_of(token: str) -> str:
    """The name of the key in a token's header."""
    header = token.partition(".")[0]
    return str(json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
headers = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("alg", "kid", "typ", "crit", "b64", "jwk", "jku", "x5c", "zip"), json_values)
)


@given(token=st.text() | st.from_regex(r"[A-Za-z0-9_=-]*(\.[A-Za-z0-9_=-]*){0,4}", fullmatch=True))
def test_any_text_is_refused_with_401(still_rig: Rig, token: str) -> None:
    """Whatever is sent as a token, nothing but a ClientError 401 comes of it."""
    still_rig.refusal(token)


@given(header=headers | json_values | st.binary(max_size=80), signature=st.binary(max_size=40))
def test_any_header_is_refused_with_401(still_rig: Rig, header: Any, signature: bytes) -> None:
    """A header is read before the signature is checked, so it is the part that strangers can choose."""
    still_rig.refusal(f"{segment(header)}.{segment(still_rig.payload())}.{base64url(signature)}")


@given(payload=json_values | st.binary(max_size=80))
def test_any_signed_payload_is_refused_with_401(still_rig: Rig, payload: Any) -> None:
    """A payload that we would not write is not taken for a token although our key has signed it."""
    still_rig.refusal(still_rig.forge(payload=payload if payload is not None else b"null"))


@given(name=st.sampled_from(list(STRANGE_CLAIMS)), value=json_values)
def test_any_value_of_a_signed_claim_is_accepted_whole_or_refused_with_401(
    still_rig: Rig, name: str, value: Any
) -> None:
    """A good token with one claim exchanged either says exactly that, or is refused."""
    token = still_rig.forge(payload=still_rig.payload(**{name: value}))
    try:
        claims = still_rig.verify(token)
    except ClientError:
        still_rig.refusal(token)
    else:
        said = {"sub": str(claims.user_id), "typ": claims.kind, "pos": claims.position, "jti": claims.token_id}
        assert still_rig.payload(**said, iat=claims.issued_at, exp=claims.expires_at)[name] == value


@given(data=st.data())
def test_a_token_with_any_character_changed_is_refused(still_rig: Rig, data: st.DataObject) -> None:
    """Nothing of a token can be changed, added or left out."""
    token = still_rig.forge()
    at = data.draw(st.integers(0, len(token)))
    removed = data.draw(st.integers(0, 2))
    changed = token[:at] + data.draw(st.text("abcXYZ019-_.", max_size=2)) + token[at + removed :]
    if changed != token:
        still_rig.refusal(changed)


def test_the_signature_is_the_standard_one(still_rig: Rig) -> None:
    """Anything that speaks JWT can check our tokens: HMAC-SHA-256 over the first two segments."""
    token = still_rig.issuer.issue("access", USER, POSITION)
    signed, _, signature = token.rpartition(".")
    assert signature == base64url(hmac.digest(still_rig.key.secret, signed.encode(), hashlib.sha256))
