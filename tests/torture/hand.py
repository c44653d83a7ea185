"""A client that does what a schedule tells it to, where the others follow chance."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.torture.arena import Arena
from tests.torture.clients import PAUSE_SECONDS, Client, Wanted, World, _seen_tweet
from tests.torture.history import HistoryFile, Outcome

PATIENCE_SECONDS: Final = 120.0


class Hand(Client):
    """One request at a time, each noted as any client's; what it makes, the others do not know of.

    ``name`` is unlike that of any other client of the history.
    """

    def __init__(self, name: str, history: HistoryFile, arena: Arena) -> None:
        super().__init__(name, 0, World(), history, writers=arena.writers, readers=arena.readers)
        self._user = 0

    async def account(self) -> Outcome:
        """Ask for an account."""
        return await self.ask(self._account())

    async def tweet(self) -> Outcome:
        """Ask for a tweet, without an idempotency key."""
        return await self.ask(await self.new_tweet())

    async def new_tweet(self) -> Wanted:
        """A tweet like no other, not yet asked for, of an account that there is."""
        return self._tweet(await self.user(), 0)

    async def user(self) -> int:
        """An account of its own, always the same."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._user:
                answer, outcome = await self._send(self._account(), "")  # under another name each time
                if outcome == "ok" and answer is not None:
                    self._user = int(answer.body["id"])
        return self._user

    async def like(self, tweet_id: int, user: int = 0) -> None:
        """Like a tweet until that is acknowledged, in the name of a user or of nobody."""
        body = {"user_id": user} if user else None
        await self.insist(Wanted("tweet_liked", "POST", f"/tweets/{tweet_id}/like", body, target=tweet_id, user=user))

    async def read(self, tweet_id: int) -> None:
        """Read a tweet."""
        await self._read("read_tweet", f"/tweets/{tweet_id}", tweet_id, _seen_tweet)

    async def ask(self, wanted: Wanted, key: str = "") -> Outcome:
        """Ask for a write once."""
        _, outcome = await self._send(wanted, key)
        return outcome

    async def insist(self, wanted: Wanted, key: str = "") -> int:
        """Ask for a write until it is acknowledged; the id of what it made, if it makes anything."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                answer, outcome = await self._send(wanted, key)
                if outcome == "ok" and answer is not None:
                    return int(answer.body["id"]) if answer.status == 201 else 0
                assert answer is None or answer.status >= 500, f"{wanted}: {answer}"
                await asyncio.sleep(PAUSE_SECONDS)
