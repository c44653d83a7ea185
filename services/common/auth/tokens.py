"""What a token says, and what makes it one of ours, apart from time and revocation.

HS256 and not EdDSA, although both services then hold a key that can sign. What EdDSA would buy is that a captured
read pod could not forge tokens. But it has REDIS_URL and with it the log, where it can write anything in anybody's
name without a token; so first Redis ACLs would have to part readers from writers. The price of EdDSA is the package
cryptography in every image (18 MB), two kinds of key file to rotate instead of one, and three times the time for a
first look at a token. The key file is a JWK Set and every key is found by its ``kid``, so that Ed25519 keys can come
in beside the others once readers cannot write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import jwt
import msgspec
from msgspec import Meta

from services.common.auth.errors import unauthorized
from services.common.auth.signing_keys import ALGORITHM, KeySet, SigningKey
from services.common.ids import POSITION_MAX

TokenKind = Literal["access", "refresh"]
_System = Literal["twitter-clone"]

LIFE_SECONDS: Final[dict[TokenKind, int]] = {"access": 15 * 60, "refresh": 90 * 24 * 3600}
LEEWAY_SECONDS: Final = 10
"""How far the clocks of two of our machines may be apart."""

TOKEN_CHARS_MAX: Final = 512
"""Longer than any token we issue; whatever is longer is refused unread."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")  # unsigned ones too: those are forged
_Seconds = Annotated[int, Meta(ge=0, le=2**53)]


@dataclass(frozen=True, slots=True)
class Claims:
    """Who holds a token, since when and until when (Unix seconds), and what its issuer knew of the log."""

    user_id: int
    kind: TokenKind
    position: int
    issued_at: int
    expires_at: int
    token_id: str


class _Payload(msgspec.Struct, frozen=True):
    """The claims as they are signed."""

    iss: _System
    aud: _System
    sub: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,15}\Z")]  # a string, because RFC 7519 wants one
    typ: TokenKind
    pos: Annotated[int, Meta(ge=0, le=POSITION_MAX)]
    iat: _Seconds
    exp: _Seconds
    jti: Annotated[str, Meta(min_length=1, max_length=64)]


# This object knows no other algorithm, whatever a header asks for.
_jws = jwt.PyJWS(algorithms=[ALGORITHM])
_payloads = msgspec.json.Decoder(_Payload, strict=True)


def encode(claims: Claims, key: SigningKey) -> str:
    """The claims as a token signed with the key."""
    payload = _Payload(
        iss="twitter-clone",
        aud="twitter-clone",
        sub=str(claims.user_id),
        typ=claims.kind,
        pos=claims.position,
        iat=claims.issued_at,
        exp=claims.expires_at,
        jti=claims.token_id,
    )
    return _jws.encode(msgspec.json.encode(payload), key.secret, ALGORITHM, headers={"kid": key.kid})


def decode(token: str, keys: KeySet) -> Claims:
    """The claims of a token that one of the keys has signed; its time may be over.

    Raises ClientError 401 with ``token_malformed``, ``token_signature`` or ``token_claims``.
    """
    return _claims(_signed_payload(token, keys))


def _signed_payload(token: str, keys: KeySet) -> bytes:
    if len(token) > TOKEN_CHARS_MAX or not _COMPACT.fullmatch(token):
        raise unauthorized("token_malformed", "This is not a signed token")
    forged = unauthorized("token_signature", "No key in use has signed this token")
    try:
        key = keys.find(_jws.get_unverified_header(token).get("kid"))
        if key is None:
            raise forged
        payload: bytes = _jws.decode(token, key.secret, algorithms=[ALGORITHM])
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
        raise forged from None
    except jwt.InvalidTokenError:
        raise unauthorized("token_malformed", "This is not a signed token") from None
    return payload


def _claims(signed_payload: bytes) -> Claims:
    try:
        payload = _payloads.decode(signed_payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise unauthorized("token_claims", "This token was not issued by this system") from None
    user_id = int(payload.sub)
    # A longer life would outlast the memory of its revocation.
    if user_id > POSITION_MAX or not 0 < payload.exp - payload.iat <= LIFE_SECONDS[payload.typ]:
        raise unauthorized("token_claims", "This token was not issued by this system")
    return Claims(user_id, payload.typ, payload.pos, payload.iat, payload.exp, payload.jti)
