"""The Authorization header, as RFC 6750 writes it: ``Bearer <token>``."""

from __future__ import annotations

from typing import Final

from services.common.auth.errors import unauthorized
from services.common.auth.tokens import TOKEN_CHARS_MAX

HEADER_BYTES_MAX: Final = TOKEN_CHARS_MAX + 16
"""A token of ours, the scheme, and a few spaces."""


def bearer_token(authorization: bytes | None) -> str:
    """The token in an Authorization header, not looked at yet.

    Raises ClientError 401: ``token_missing`` without a header, ``token_malformed`` for another scheme, no token, or
    more than a token can be.
    """
    if authorization is None:
        raise unauthorized("token_missing", "This needs an Authorization header with a bearer token")
    scheme, _, token = authorization.partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not token or len(authorization) > HEADER_BYTES_MAX:
        raise unauthorized("token_malformed", "The Authorization header must be: Bearer <token>")
    return token.decode("latin-1")
