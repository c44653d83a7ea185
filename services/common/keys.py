"""The names of everything this project keeps in Redis. append.lua receives them from here.

Only ``limit:`` and ``response:`` have a time to live; ``volatile-lru`` may evict nothing that
correctness needs.
"""

from __future__ import annotations

from typing import Final

STREAM: Final = "events"
"""The log itself: one stream."""

META: Final = "log:meta"
"""Hash: ``head``, ``epoch``, ``fence``, ``halt``, ``reported``, ``version`` (of the owner's projection)."""

CALLS: Final = "log:calls"
"""Hash: session of a writer -> ``{number} {head} {results}`` of its last append call, of a thousand sessions."""

NAME_PREFIX: Final = "name:"
"""``name:{username in lower case}`` -> user id, or ``-{Unix ms}``: of a deleted account, free from then on."""

EMAIL_PREFIX: Final = "email:"
"""``email:{hmac}`` -> user id."""

CREDENTIAL_PREFIX: Final = "cred:"
"""Hash ``cred:{user id}``: ``username``, ``email``, ``email_hmac``, ``password_hash``, ``revoked_position`` and
``suspended_position`` if any, and
``position``, the entry that changed it last."""

RESPONSE_PREFIX: Final = "response:"
"""``response:{version}:{key}``: an encoded response that readers of one database share, in CACHE_URL. Expires."""

DELETED: Final = "log:deleted"
"""Sorted set of ``{tweet id}:{user id}``: every deletion that the log holds, by its position; trimmed with it."""

ABANDONED: Final = "log:abandoned"
"""Set of positions that writers and followers were at when the log held nothing so old any more, for the owner."""

WAITED_FOR: Final = "log:waited_for"
"""Written before replicas are waited for: Redis waits for what the same connection has written, and for no more."""

LIMIT_PREFIX: Final = "limit:"
"""``limit:{limit}:{window}:{subject}`` -> requests leased or admitted in this window, in CACHE_URL's Redis. Expires."""

IDEMPOTENCY_PREFIX: Final = "idempotency:"
"""Hashes ``idempotency:{hour of Unix time}``: scope of a claim -> ``{position}:{fingerprint}``; see idempotency.py."""

IDEMPOTENCY_HOURS: Final = "idempotency:hours"
"""Set of the hours of which there is such a hash."""

OWNER_GROUP: Final = "db-updater"
"""The consumer group that shows the owner's progress to standard tools; nothing reads through it."""


def limit(name: str, window: int, subject: str) -> str:
    """The key of what a subject has used of a limit in a window."""
    return f"{LIMIT_PREFIX}{name}:{window}:{subject}"


def credential(user_id: int) -> str:
    """The key of a user's credentials."""
    return f"{CREDENTIAL_PREFIX}{user_id}"


def idempotency(hour: int) -> str:
    """The key of an hour's claims."""
    return f"{IDEMPOTENCY_PREFIX}{hour}"


def response(version: int, key: str) -> str:
    """The key of a response that was made by a version of the projection."""
    return f"{RESPONSE_PREFIX}{version}:{key}"


def deletion(tweet_id: int, user_id: int) -> str:
    """The member of ``DELETED`` for a user's deletion of a tweet; it counts if she is the author."""
    return f"{tweet_id}:{user_id}"
