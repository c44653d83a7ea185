"""The Authorization header, as RFC 6750 writes it: ``Bearer <token>``."""

from __future__ import annotations

from services.common.auth.errors import unauthorized


def bearer_token(authorization: str | None) -> str:
    """The token in an Authorization header, not looked at yet.

    Raises ClientError 401: ``token_missing`` without a header, ``token_malformed`` for another scheme or no token.
    """
    if authorization is None:
        raise unauthorized("token_missing", "This needs an Authorization header with a bearer token")
    scheme, _, token = authorization.partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthorized("token_malformed", "The Authorization header must be: Bearer <token>")
    return token
