"""Tokens of every bad kind, made with the keys of a test."""

from __future__ import annotations

import base64
import hmac
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from services.common.auth.signing_keys import SigningKey, parse_keys
from services.common.auth.tokens import Claims, TokenKind, encode

BAD: Final = {
    "garbage": "token_malformed",
    "expired": "token_expired",
    "early": "token_early",
    "forged": "token_signature",
    "unsigned": "token_signature",
    "other_algorithm": "token_signature",
    "public_key_algorithm": "token_signature",
    "own_key_inside": "token_signature",
    "key_of_a_path": "token_signature",
    "unknown_extension": "token_malformed",
    "rotated_key": "token_signature",
    "other_system": "token_claims",
    "other_kind": "token_kind",
}
"""The bad tokens that can be made, and the code with which each is refused."""


def good_token(key: SigningKey, user_id: int) -> str:
    """An access token of this user, signed with this key."""
    return encode(_good(user_id, "access"), key)


def bad_token(name: str, key_file: Path, user_id: int, kind: TokenKind = "access") -> str:
    """A token of this user that is good but for what it is named for."""
    key = parse_keys(key_file.read_bytes()).keys[0]
    now = int(time.time())
    good = _good(user_id, kind)
    payload = encode(good, key).split(".")[1]
    tokens = {
        "garbage": "no token at all",
        "expired": encode(replace(good, issued_at=now - 120, expires_at=now - 60), key),
        "early": encode(replace(good, issued_at=now + 600, expires_at=now + 660), key),
        "forged": encode(good, SigningKey(key.kid, b"f" * 32, 0)),
        "unsigned": f"{_segment({'alg': 'none', 'kid': key.kid})}.{payload}.",
        "other_algorithm": _signed({"alg": "HS512", "kid": key.kid}, payload, key.secret, "sha512"),
        # Where an algorithm is taken from the token, a public key becomes the secret of an HMAC.
        "public_key_algorithm": _signed({"alg": "RS256", "kid": key.kid}, payload, key.secret, "sha256"),
        "own_key_inside": _signed({"alg": "HS256", "jwk": {"kty": "oct", "k": "Zg"}}, payload, b"f", "sha256"),
        "key_of_a_path": _signed({"alg": "HS256", "kid": "../../dev/null"}, payload, b"", "sha256"),
        "unknown_extension": _signed(
            {"alg": "HS256", "kid": key.kid, "crit": ["b64"], "b64": False}, payload, key.secret, "sha256"
        ),
        "rotated_key": encode(good, SigningKey("rotated-out", b"r" * 32, 0)),
        "other_system": _signed(
            {"alg": "HS256", "kid": key.kid}, _segment({"sub": str(user_id)}), key.secret, "sha256"
        ),
        "other_kind": encode(replace(good, kind="refresh" if kind == "access" else "access"), key),
    }
    return tokens[name]


def _good(user_id: int, kind: TokenKind) -> Claims:
    now = int(time.time())
    return Claims(user_id, kind, 2**52, now, now + 60, "a-test")


def _signed(header: dict[str, Any], payload: str, secret: bytes, hash_name: str) -> str:
    signed = f"{_segment(header)}.{payload}"
    return f"{signed}.{_base64url(hmac.digest(secret, signed.encode(), hash_name))}"


def _segment(content: dict[str, Any]) -> str:
    return _base64url(json.dumps(content).encode())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
