"""The owner's copy of what was appended under idempotency keys: it makes Redis whole again after a loss (ADR 10)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import Engine, bindparam, delete, insert, select
from sqlmodel import col

from services.common.log.entry import Entry
from services.common.log.idempotency import SCOPE_BYTES, IdempotencyAnswer, IdempotencyClaim
from services.common.models import KeptAnswer

_DELETE: Final = delete(KeptAnswer).where(col(KeptAnswer.scope) == bindparam("its_scope"))
_INSERT: Final = insert(KeptAnswer)


class KeptAnswers:
    """A private table of the last day. Each call is one durable transaction and may be repeated."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def save(self, entries: Sequence[Entry]) -> None:
        """Keep under which claims these entries were appended; of several under one key, days apart, the last."""
        last = {entry.claim[:SCOPE_BYTES]: entry for entry in entries if entry.claim}
        rows = [
            {"scope": scope, "fingerprint": entry.claim[SCOPE_BYTES:], "position": entry.position}
            for scope, entry in last.items()
        ]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(_DELETE, [{"its_scope": scope} for scope in last])
                connection.execute(_INSERT, rows)

    def forget_before(self, position: int) -> None:
        """Remove what is older than a position."""
        with self._engine.begin() as connection:
            connection.execute(delete(KeptAnswer).where(col(KeptAnswer.position) < position))

    def forget_after(self, position: int) -> None:
        """Remove what was kept of entries after the applied position, which a crash kept from being applied."""
        with self._engine.begin() as connection:
            connection.execute(delete(KeptAnswer).where(col(KeptAnswer.position) > position))

    def read(self, answers_max: int) -> Iterator[list[IdempotencyAnswer]]:
        """All that is kept, oldest first, in lists of at most ``answers_max``."""
        columns = (col(KeptAnswer.scope), col(KeptAnswer.fingerprint), col(KeptAnswer.position))
        last_position = 0
        while True:
            statement = select(*columns).where(col(KeptAnswer.position) > last_position)
            with self._engine.begin() as connection:
                rows = connection.execute(statement.order_by(col(KeptAnswer.position)).limit(answers_max)).all()
            if not rows:
                return
            yield [IdempotencyAnswer(IdempotencyClaim(row.scope, row.fingerprint), row.position) for row in rows]
            last_position = rows[-1].position
