"""Appending what a command has become, unless it refers to what is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from services.common.errors import ClientError
from services.common.ids import POSITION_MAX
from services.common.log.append import AppendItem, Result
from services.common.tasks import Tasks
from services.write.existence import Existence, Kind

REQUEST_SECONDS: Final = 0.85
"""From command to verdict; a client has its answer within a second, whatever Redis does."""

AppendOne = Callable[[AppendItem, float], Awaitable[Result]]
"""Append one item by a deadline on the event loop's clock."""

Submit = Callable[[AppendItem, float, Callable[[Result | Exception], None]], None]
"""The same for who does not wait: called with the result, or with what AppendOne raises."""


class Appending:
    """What all handlers of one event loop append through; each item by a deadline, as GroupCommit does."""

    def __init__(self, append: AppendOne, submit: Submit, existence: Existence) -> None:
        self.append = append
        self.submit = submit
        self._existence = existence
        self._now = asyncio.get_running_loop().time  # until Python 3.12 to ask for the loop is a system call each time
        self.begin_task = Tasks().begin  # for what has to wait for more than the log

    def new_deadline(self) -> float:
        """By when a command that has just come is to be decided, on the event loop's clock."""
        return self._now() + REQUEST_SECONDS

    async def refusal(self, *subjects: tuple[Kind, int]) -> ClientError | None:
        """The 404 for the first of these that provably does not exist."""
        try:
            await self._existence.refuse_absent(*subjects)
        except ClientError as refusal:
            return refusal
        return None

    async def append_unless(self, refusal: ClientError | None, item: AppendItem, deadline: float) -> Result:
        """Append an item. Raises the refusal, except of what was done before what it refers to was gone."""
        if refusal is None:
            return await self.append(item, deadline)
        if item.claim is None:
            raise refusal
        # Only the log knows whether it was. Nothing above the head exists, so it can append nothing now.
        result = await self.append(msgspec.structs.replace(item, target=POSITION_MAX), deadline)
        if result == "not_found":
            raise refusal
        return result
