"""How authentication refuses; the tree this belongs to is in services/common/errors.py.

InvariantError
└── KeysUnfit              the file of signing keys cannot be used

A token or a password is refused with ClientError 401 and one of these codes, whatever it is made of:

- ``bad_credentials``    no account with this name or e-mail address has this password
- ``token_missing``      the request has no Authorization header
- ``token_malformed``    it is no bearer token, or no signed token at all
- ``token_signature``    no key in use has signed it (forged, another algorithm or none, a key rotated out)
- ``token_claims``       a key of ours has signed it, but not for this system, this format or this lifetime
- ``token_early``        it was issued later than now: some clock is wrong
- ``token_kind``         a refresh token where an access token belongs, or the reverse
- ``token_expired``      its time is over: refresh it
- ``token_revoked``      its user has revoked all tokens issued before some later moment: log in again
"""

from __future__ import annotations

from typing import Literal

from services.common.errors import ClientError, InvariantError

RefusalCode = Literal[
    "bad_credentials",
    "token_missing",
    "token_malformed",
    "token_signature",
    "token_claims",
    "token_early",
    "token_kind",
    "token_expired",
    "token_revoked",
]


def suspended() -> ClientError:
    """The 403 ``account_suspended``: by the operator, who alone can lift it."""
    return ClientError(403, "account_suspended", "This account is suspended")


class KeysUnfit(InvariantError):
    """The file of signing keys is not there, not whole, or holds a key that must not be used. Never quotes it."""


def unauthorized(code: RefusalCode, message: str) -> ClientError:
    """The 401 that refuses a token or a password. The message never contains any part of it."""
    return ClientError(401, code, message)
