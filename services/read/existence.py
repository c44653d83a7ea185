"""What the write service asks: which of some tweets and users there are, all in one question (ADR 38)."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.common.shapes import EXISTENCE_IDS_MAX, Existing
from services.common.web import problems
from services.read.lookups import Lookups

_IDS: Final = rf"^[0-9]{{1,16}}(,[0-9]{{1,16}}){{0,{EXISTENCE_IDS_MAX - 1}}}$"

Ids = Annotated[str | None, Query(pattern=_IDS, description="Ids with commas between them.", examples=["1,2,3"])]

router = APIRouter()


@router.get("/internal/existence", tags=["internal"], response_model=Existing, responses=problems(400))
async def get_existence(request: Request, tweets: Ids = None, users: Ids = None) -> Response:
    """Which of these tweets and users there are, at a position.

    What is not there with an id up to that position never will be; with a greater id it is not known.
    """
    lookups: Lookups = request.app.state.lookups
    found = await lookups.existing(_numbers(tweets), _numbers(users))
    return Response(msgspec.json.encode(found), media_type="application/json")


def _numbers(ids: str | None) -> list[int]:
    return [int(digits) for digits in ids.split(",")] if ids else []
