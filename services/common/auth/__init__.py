"""Who acts: signed bearer tokens, the keys that sign them, and what has been revoked.

Pure and independent of HTTP, the log and Redis; a service hands each part what it needs:

- ``bearer_token`` takes the token out of an Authorization header, ``TokenVerifier`` says whose it is;
- ``Authentication`` is both of these and the next one together, as a service uses them;
- ``TokenIssuer`` signs new ones with the newest key of the ``Keyring``, which follows its file;
- ``check_not_revoked`` compares a token with the ``revoked_position`` kept in its user's credentials, and
  ``check_not_suspended`` looks at the ``suspended_position`` there;
- ``add_key`` makes the file of keys and, with ``remove_key``, rotates it.
"""

from services.common.auth.authentication import Authentication, TokenPair
from services.common.auth.errors import KeysUnfit, suspended, unauthorized
from services.common.auth.header import bearer_token
from services.common.auth.issuer import TokenIssuer
from services.common.auth.key_file import add_key, remove_key
from services.common.auth.keyring import Keyring
from services.common.auth.metrics import AuthMetrics
from services.common.auth.tokens import Claims, TokenKind
from services.common.auth.verifier import TokenVerifier, check_not_revoked, check_not_suspended

__all__ = [
    "AuthMetrics",
    "Authentication",
    "Claims",
    "Keyring",
    "KeysUnfit",
    "TokenIssuer",
    "TokenKind",
    "TokenPair",
    "TokenVerifier",
    "add_key",
    "bearer_token",
    "check_not_revoked",
    "check_not_suspended",
    "remove_key",
    "suspended",
    "unauthorized",
]
