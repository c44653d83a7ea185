"""What the routes share: their parameters and their answers."""

from __future__ import annotations

from typing import Annotated, Final, Literal, cast

import msgspec
from fastapi import Depends, Header, Path, Request, Response
from pydantic import BaseModel, BeforeValidator, Field

from services.common.auth import TokenPair
from services.common.errors import ClientError
from services.common.ids import POSITION_MAX
from services.common.log.append import TokenHolder
from services.common.web import client_address, set_position
from services.write.actors import Gate
from services.write.handlers import Handlers
from services.write.idempotency import IdempotencyKey, check_key
from services.write.logins import Logins
from services.write.outcome import Written


def _digits(text: str) -> str:
    if not (text.isascii() and text.isdigit()):  # pydantic would take " 7", "+7", "7.0" and "1_0" too
        raise ValueError("must be a whole number")
    return text


PathId = Annotated[int, Path(ge=1, le=POSITION_MAX), BeforeValidator(_digits)]


class Success(BaseModel):
    """The answer to what creates nothing; repeating it is a success too."""

    status: Literal["success"] = "success"


class IssuedTokens(BaseModel):
    """Tokens that came with an answer; left out where there are none."""

    access_token: str | None = None
    refresh_token: str | None = None
    token_type: str | None = None
    expires_in: int | None = Field(default=None, description="Seconds that the access token is good for.")


class SuccessWithTokens(IssuedTokens):
    """The answer to what creates nothing, with tokens where new ones are needed."""

    status: Literal["success"] = "success"


class CreatedUser(IssuedTokens):
    """A UserView and tokens."""

    id: int
    username: str
    created_at: str
    followers_count: int
    following_count: int


async def get_handlers(request: Request) -> Handlers:
    """The handlers of this app."""
    return cast("Handlers", request.app.state.handlers)


HandlersOfApp = Annotated[Handlers, Depends(get_handlers)]


async def get_logins(request: Request) -> Logins:
    """The logins of this app."""
    return cast("Logins", request.app.state.logins)


LoginsOfApp = Annotated[Logins, Depends(get_logins)]


async def get_holder(request: Request) -> TokenHolder | None:
    """Whose token came with the request; None without one, where it is not needed."""
    gate: Gate = request.app.state.gate
    return gate.holder(_authorization_of(request))


async def get_proven_holder(request: Request) -> TokenHolder:
    """Whose token came with the request."""
    gate: Gate = request.app.state.gate
    return gate.proven_holder(_authorization_of(request))


def _authorization_of(request: Request) -> bytes | None:
    return dict(request.scope["headers"]).get(b"authorization")


Holder = Annotated[TokenHolder | None, Depends(get_holder)]
ProvenHolder = Annotated[TokenHolder, Depends(get_proven_holder)]

IDEMPOTENCY_KEY: Final = "Idempotency-Key"


async def check_key_header(
    request: Request,
    key: Annotated[
        str | None,
        Header(
            alias=IDEMPOTENCY_KEY,
            description="A name for this request, 1 to 255 visible ASCII characters, best a random UUID. Sent again "
            "under the same name within a day, it is not done again, and the answer is the same.",
        ),
    ] = None,
) -> str | None:
    """The idempotency key of a request. Raises ClientError 400 for one that is none, and for several."""
    if key is None:
        return None
    if len(request.headers.getlist(IDEMPOTENCY_KEY)) > 1:
        raise ClientError(400, "bad_idempotency_key", "Send one Idempotency-Key")
    check_key(key)
    return key


KeyHeader = Annotated[str | None, Depends(check_key_header)]


async def get_key(request: Request, key: KeyHeader, holder: Holder) -> IdempotencyKey | None:
    """The idempotency key of whose token came with the request, or else of whoever is at its address."""
    if holder is None:
        return await get_key_of_address(request, key)
    return None if key is None else IdempotencyKey(f"user {holder.user_id}", key)


async def get_key_of_address(request: Request, key: KeyHeader) -> IdempotencyKey | None:
    """The idempotency key of whoever is at the request's address."""
    return None if key is None else IdempotencyKey(f"address {client_address(request.scope)}", key)


Key = Annotated[IdempotencyKey | None, Depends(get_key)]
KeyOfAddress = Annotated[IdempotencyKey | None, Depends(get_key_of_address)]

SUCCESS = Success().model_dump_json().encode()


def created(request: Request, written: Written[object], tokens: TokenPair | None = None) -> Response:
    """201 with what was created, at its position, and tokens if there are any."""
    set_position(request.scope, written.position)
    if tokens is None:
        return Response(msgspec.json.encode(written.value), 201, media_type="application/json")
    return _with_tokens(written.value, tokens, 201)


def success(request: Request, written: Written[None], tokens: TokenPair | None = None) -> Response:
    """200, at the position of the event, and tokens if there are any."""
    set_position(request.scope, written.position)
    if tokens is None:
        return Response(SUCCESS, media_type="application/json")
    return _with_tokens({"status": "success"}, tokens)


def issued(tokens: TokenPair) -> Response:
    """200 with nothing but tokens."""
    return _with_tokens({}, tokens)


def _with_tokens(value: object, tokens: TokenPair, status: int = 200) -> Response:
    fields = {**msgspec.to_builtins(value), **msgspec.to_builtins(tokens)}
    return Response(msgspec.json.encode(fields), status, {"Cache-Control": "no-store"}, media_type="application/json")
