"""The author of a new tweet, as the answer shows her."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

import msgspec

from services.common.shapes import UserView
from services.write.existence import Existence, Kind

FRESH_SECONDS: Final = 3.0
"""How long an author's counters may lag in the answer to a new tweet; the read service is exact."""

AUTHORS_MAX: Final = 10_000


class Authors:
    """Views of authors, a few seconds old at most, else from the read service."""

    def __init__(self, existence: Existence, *, authors_max: int = AUTHORS_MAX) -> None:
        self._existence = existence
        self._authors_max = authors_max
        self._views: OrderedDict[int, tuple[float, UserView]] = OrderedDict()

    def remember(self, view: UserView) -> None:
        """Note how a user looks now."""
        self._views[view.id] = (asyncio.get_running_loop().time() + FRESH_SECONDS, view)
        self._views.move_to_end(view.id)
        if len(self._views) > self._authors_max:
            self._views.popitem(last=False)

    async def view(self, user_id: int) -> UserView | None:
        """The author, None if nobody can say now. Raises the 404 if she provably does not exist."""
        fresh_until, view = self._views.get(user_id, (0.0, None))
        if view is not None and asyncio.get_running_loop().time() < fresh_until:
            return view
        finding = await self._existence.find(Kind.USER, user_id)
        if not finding.body:
            return None
        view = msgspec.json.decode(finding.body, type=UserView)
        self.remember(view)
        return view
