"""The keys that sign and verify tokens, and the file format they are kept in.

    {"keys": [{"kty": "oct", "kid": "20261122-5f3a9c01", "k": "<random bytes>", "signs_from": 1795353660}]}

A JWK Set (RFC 7517): ``k`` is base64url without padding, at least 32 bytes. All keys verify. Of those whose
``signs_from`` (Unix seconds) has come, the latest signs: a new key reaches every verifier before the first token
signed with it does, although a Secret arrives at each pod at another moment, a minute or more apart.

One file and not a file for each key, because it is replaced in one step, and because no beginning of a JSON object
is a JSON object: a half-written file cannot be taken for a whole one. A half-written bare key could.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import jwt
import msgspec

from services.common.auth.errors import KeysUnfit

ALGORITHM: Final = "HS256"
SECRET_BYTES_MIN: Final = 32  # RFC 7518, 3.2: no shorter than the hash
KEYS_MAX: Final = 32

_KID = re.compile(r"[A-Za-z0-9._-]{1,32}")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. ``kid`` is its public name, ``signs_from`` the Unix second from which it may sign."""

    kid: str
    secret: bytes = field(repr=False)
    signs_from: int


@dataclass(frozen=True, slots=True)
class KeySet:
    """At least one key, in the order in which they begin to sign. Never changes; a new file makes a new set."""

    keys: tuple[SigningKey, ...]

    def find(self, kid: str | None) -> SigningKey | None:
        """The key of this name, if it is in use."""
        return next((key for key in self.keys if key.kid == kid), None)

    def signer(self, now_seconds: float) -> SigningKey:
        """The key that signs now: the latest whose time has come, or the first if none's has."""
        return next((key for key in reversed(self.keys) if key.signs_from <= now_seconds), self.keys[0])


class _Jwk(msgspec.Struct, frozen=True):
    kty: str
    kid: str
    k: str
    signs_from: int


class _JwkSet(msgspec.Struct, frozen=True):
    keys: list[_Jwk]


def parse_keys(content: bytes) -> KeySet:
    """The keys in a file's content. Raises KeysUnfit, which says what is wrong and never quotes the content."""
    try:
        jwks = msgspec.json.decode(content, type=_JwkSet).keys
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise KeysUnfit(f"this is not a whole file of keys: {error}") from None
    if not 1 <= len(jwks) <= KEYS_MAX:
        raise KeysUnfit(f"there must be 1 to {KEYS_MAX} keys, not {len(jwks)}")
    keys = sorted((_parse_key(jwk, index) for index, jwk in enumerate(jwks)), key=lambda key: key.signs_from)
    if len({key.kid for key in keys}) < len(keys):
        raise KeysUnfit("two keys have the same kid")
    return KeySet(tuple(keys))


def encode_keys(keys: Iterable[SigningKey]) -> bytes:
    """The content of a file with these keys, one a line. Secret."""
    jwks = [_Jwk("oct", key.kid, _base64url(key.secret), key.signs_from) for key in keys]
    return msgspec.json.format(msgspec.json.encode(_JwkSet(jwks))) + b"\n"


def _parse_key(jwk: _Jwk, index: int) -> SigningKey:
    if not _KID.fullmatch(jwk.kid):
        raise KeysUnfit(f"keys[{index}]: kid must be 1 to 32 of the characters A-Z a-z 0-9 . _ -")
    if jwk.kty != "oct":
        raise KeysUnfit(f"keys[{index}]: kty must be oct")
    try:
        secret = base64.b64decode(jwk.k + "=" * (-len(jwk.k) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise KeysUnfit(f"keys[{index}]: k must be random bytes in base64url") from None
    if len(secret) < SECRET_BYTES_MIN:
        raise KeysUnfit(f"keys[{index}]: k has {len(secret)} bytes, it must have at least {SECRET_BYTES_MIN}")
    try:
        # PyJWT refuses to use what looks like another kind of key. Better here than at the first token.
        jwt.get_algorithm_by_name(ALGORITHM).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise KeysUnfit(f"keys[{index}]: k is a key of another kind, it must be random bytes") from None
    return SigningKey(jwk.kid, secret, jwk.signs_from)


def _base64url(secret: bytes) -> str:
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
