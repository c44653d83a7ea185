"""Every error this project raises on purpose.

TwitterError
├── ClientError            the caller asked for something impossible: an HTTP 4xx with a stable code
├── OperationalError       the environment failed: retry later (HTTP 503 with Retry-After)
│   ├── LogUnavailable         Redis did not answer, or answered that it cannot now
│   ├── WritesRefused          the log answered and refuses writes for now (halted, not started, ...)
│   │   └── DeadlinePassed         the append came too late and was never carried out
│   ├── OutcomeUnknown         the append may or may not have happened
│   ├── Overloaded             more waits here than can be done in time
│   ├── OwnerUnavailable       the db-updater did not answer
│   ├── PositionNotReached     a read asked for a position this replica has not applied in time
│   └── StoreUnavailable       disk, memory or a lock of the database failed
└── InvariantError         a bug or a damaged world: the process that meets it stops
    ├── LogForked              the log holds less than it once acknowledged
    ├── BehindHorizon          the next entry needed is no longer in the log: take a snapshot
    ├── NewerVersion           the log holds an event this process is too old to understand
    ├── FenceLost              another owner took over
    └── StorageUnfit           a database, archive or SQLite library this code must not use
"""

from __future__ import annotations


class TwitterError(Exception):
    """Root of the tree: catch it to catch everything this project raises on purpose."""


class ClientError(TwitterError):
    """A request that cannot be served as it stands.

    ``status`` is the HTTP status, ``code`` the stable machine-readable reason, the message is for people.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class OperationalError(TwitterError):
    """The environment failed; the same request may succeed later.

    ``code`` goes into the 503 answer, ``retry_after_seconds`` into its Retry-After header.
    """

    code = "unavailable"
    retry_after_seconds = 1


class LogUnavailable(OperationalError):
    """Redis did not answer in time, or cannot serve now (loading, out of memory). Nothing was written."""

    code = "log_unavailable"


class WritesRefused(OperationalError):
    """The log answered and refuses writes for now; nothing was written. ``code`` says why."""

    retry_after_seconds = 5

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DeadlinePassed(WritesRefused):
    """The log saw the append only after its deadline and did nothing: proof that it never ran."""


class OutcomeUnknown(OperationalError):
    """The append was sent, no answer came back and none could be obtained: it may have happened."""

    code = "outcome_unknown"


class Overloaded(OperationalError):
    """A bound on what waits here is reached; nothing was done."""

    code = "overloaded"


class OwnerUnavailable(OperationalError):
    """The db-updater did not answer, or its answer did not arrive whole."""

    code = "owner_unavailable"


class PositionNotReached(OperationalError):
    """A read asked for a position that this replica did not reach within the allowed wait."""

    code = "position_not_reached"


class StoreUnavailable(OperationalError):
    """The disk, the memory or a lock of the database that is read from failed."""

    code = "store_unavailable"


class InvariantError(TwitterError):
    """Something that must never happen did: the process says so and stops instead of guessing."""


class LogForked(InvariantError):
    """The log continues from a position before ours: Redis came back with less than it acknowledged."""


class BehindHorizon(InvariantError):
    """The entry after ours has been trimmed away; only a snapshot can bring this follower on."""


class NewerVersion(InvariantError):
    """The log holds an event that only a newer version of this program understands."""


class FenceLost(InvariantError):
    """Another owner has raised the fence: this one must not commit, trim or start an epoch again."""


class StorageUnfit(InvariantError):
    """A database file, archive segment or SQLite library that this code must not use."""
