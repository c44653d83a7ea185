"""What the routes share: their parameters and their answers."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import msgspec
from fastapi import Depends, Path, Request, Response
from pydantic import BaseModel, BeforeValidator

from services.common.errors import ClientError
from services.common.ids import POSITION_MAX
from services.common.web import set_position
from services.write.handlers import Handlers, Written


def _digits(text: str) -> str:
    if not (text.isascii() and text.isdigit()):  # pydantic would take " 7", "+7", "7.0" and "1_0" too
        raise ValueError("must be a whole number")
    return text


PathId = Annotated[int, Path(ge=1, le=POSITION_MAX), BeforeValidator(_digits)]


class Success(BaseModel):
    """The answer to what creates nothing; repeating it is a success too."""

    status: Literal["success"] = "success"


def get_handlers(request: Request) -> Handlers:
    """The handlers of this app."""
    return cast("Handlers", request.app.state.handlers)


HandlersOfApp = Annotated[Handlers, Depends(get_handlers)]

_SUCCESS = Success().model_dump_json().encode()


def created(request: Request, written: Written[object]) -> Response:
    """201 with what was created, at its position."""
    set_position(request.scope, written.position)
    return Response(msgspec.json.encode(written.value), 201, media_type="application/json")


def success(request: Request, written: Written[None]) -> Response:
    """200, at the position of the event."""
    set_position(request.scope, written.position)
    return Response(_SUCCESS, media_type="application/json")


async def refuse_unauthenticated() -> None:
    """AUTH_REQUIRED=true before there are accounts: nobody can prove who they are."""
    raise ClientError(401, "authentication_required", "Authentication is required")
