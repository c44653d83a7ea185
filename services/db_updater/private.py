"""The private tables: what users gave in confidence. They live in a place of their own, so no snapshot holds them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields

from sqlalchemy import Connection, bindparam, delete, insert, or_, select
from sqlmodel import col

from services.common.database import Database, open_private_writer, purge
from services.common.events import Event, Malformed, UserCreated, decode
from services.common.ids import BEGINNING, position_at, unix_ms_of
from services.common.log.append import NAME_HELD_SECONDS, AccountEvent
from services.common.log.client import StoredCredential
from services.common.log.entry import Entry
from services.common.models import Credential, HeldName, Private
from services.db_updater.idempotency import KeptAnswers


class PrivateTables:
    """Credentials by user id, and beside them ``answers`` under idempotency keys.

    Each call is one durable transaction and may be repeated.
    """

    def __init__(self, database: Database) -> None:
        self._engine = open_private_writer(database)
        with self._engine.begin() as connection:
            Private.metadata.create_all(connection)
        self.answers = KeptAnswers(self._engine)

    def save(self, credentials: Mapping[int, StoredCredential]) -> None:
        """Keep these users' credentials, except where what is held is newer."""
        if not credentials:
            return
        held = select(col(Credential.user_id), col(Credential.position)).where(col(Credential.user_id).in_(credentials))
        with self._engine.begin() as connection:
            positions = {row.user_id: row.position for row in connection.execute(held)}
            fresh = {
                user_id: credential
                for user_id, credential in credentials.items()
                if credential.position >= positions.get(user_id, BEGINNING)
            }
            if fresh:
                _delete(connection, list(fresh))
                rows = [{"user_id": user_id, **asdict(credential)} for user_id, credential in fresh.items()]
                connection.execute(insert(Credential), rows)

    def forget(self, user_ids: Sequence[int]) -> None:
        """Remove what is kept of these users."""
        if not user_ids:
            return
        with self._engine.begin() as connection:
            _delete(connection, user_ids)

    def credentials(self, user_ids: Sequence[int]) -> dict[int, StoredCredential]:
        """What is kept of these users."""
        columns = [getattr(Credential, field.name) for field in fields(StoredCredential)]
        statement = select(col(Credential.user_id), *columns).where(col(Credential.user_id).in_(user_ids))
        with self._engine.begin() as connection:
            return {row[0]: StoredCredential(*row[1:]) for row in connection.execute(statement)}

    def unknown(self, user_ids: Sequence[int]) -> list[int]:
        """Those of these users of whom nothing is kept."""
        statement = select(col(Credential.user_id)).where(col(Credential.user_id).in_(user_ids))
        with self._engine.begin() as connection:
            known = set(connection.execute(statement).scalars())
        return [user_id for user_id in user_ids if user_id not in known]

    def hold_names(self, names: Mapping[str, int]) -> None:
        """Keep names, in lower case, of accounts deleted at these positions; forget those that are free by then."""
        if not names:
            return
        free_position = position_at(unix_ms_of(max(names.values())) - NAME_HELD_SECONDS * 1000)
        gone = or_(col(HeldName.username_lower).in_(names), col(HeldName.position) < free_position)
        with self._engine.begin() as connection:
            connection.execute(delete(HeldName).where(gone))
            rows = [{"username_lower": name, "position": position} for name, position in names.items()]
            connection.execute(insert(HeldName), rows)

    def held_names(self) -> dict[str, int]:
        """The names of deleted accounts, and where these were deleted."""
        statement = select(col(HeldName.username_lower), col(HeldName.position))
        with self._engine.begin() as connection:
            return {row.username_lower: row.position for row in connection.execute(statement)}

    def user_ids(self, users_max: int) -> Iterator[list[int]]:
        """Everybody of whom something is kept, in lists of at most ``users_max``."""
        last_id = 0
        while True:
            statement = select(col(Credential.user_id)).where(col(Credential.user_id) > last_id)
            with self._engine.begin() as connection:
                found = list(connection.execute(statement.order_by(col(Credential.user_id)).limit(users_max)).scalars())
            if not found:
                return
            yield found
            last_id = found[-1]

    def purge(self) -> None:
        """Leave as little as can be on disk of what was removed or replaced: in a SQLite file, nothing."""
        purge(self._engine)

    def close(self) -> None:
        """Close the place."""
        self._engine.dispose()


def _delete(connection: Connection, user_ids: Sequence[int]) -> None:
    statement = delete(Credential).where(col(Credential.user_id) == bindparam("id"))
    connection.execute(statement, [{"id": user_id} for user_id in user_ids])


AboutAccount = UserCreated | AccountEvent


def accounts_in(entries: Sequence[Entry], *event_types: type[AboutAccount]) -> list[int]:
    """The accounts that entries of these types are about; those of malformed entries are unknown and left out."""
    names = {event_type.name for event_type in event_types}
    found = ((entry.position, _event_of(entry)) for entry in entries if entry.name in names)
    return [_account_of(event, position) for position, event in found if isinstance(event, AboutAccount)]


def usernames_in(entries: Sequence[Entry]) -> dict[int, str]:
    """The names of the accounts that these entries create."""
    created = ((entry, _event_of(entry)) for entry in entries if entry.name == UserCreated.name)
    return {event.id or entry.position: event.username for entry, event in created if isinstance(event, UserCreated)}


def _event_of(entry: Entry) -> Event | None:
    try:
        return decode(entry.name, entry.payload)
    except Malformed:
        return None


def _account_of(event: AboutAccount, position: int) -> int:
    return (event.id or position) if isinstance(event, UserCreated) else event.user_id
