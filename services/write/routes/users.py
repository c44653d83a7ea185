"""Accounts and who follows whom."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from services.common.web import problems
from services.write.actors import actor_of
from services.write.commands import ActAs, CreateUser, UpdateAccount
from services.write.routes.wire import (
    CreatedUser,
    HandlersOfApp,
    Holder,
    Key,
    KeyOfAddress,
    LoginsOfApp,
    PathId,
    ProvenHolder,
    Success,
    SuccessWithTokens,
    created,
    success,
)

router = APIRouter(prefix="/users", tags=["users"])


@router.post("", status_code=201, response_model=CreatedUser, responses=problems(409))
async def create_user(
    request: Request, command: CreateUser, handlers: HandlersOfApp, logins: LoginsOfApp, key: KeyOfAddress
) -> Response:
    """Open an account; with it come tokens, where this service has keys. No token is looked at.

    Repeated under an Idempotency-Key, tokens come again only with the account's password or, for an account without
    one, with a key of at least 32 characters.
    """
    written = await handlers.accounts.create(command, key)
    if written.is_repeated and key is not None:
        return created(request, written, await logins.of_repeated_account(written.position, command, key))
    return created(request, written, logins.of_new_account(written.position))


@router.patch("/me", response_model=SuccessWithTokens, responses=problems(401, 403, 409))
async def update_account(
    request: Request, command: UpdateAccount, handlers: HandlersOfApp, logins: LoginsOfApp, holder: ProvenHolder
) -> Response:
    """Change one's account. A new password makes all tokens useless, and new ones come with the answer."""
    written = await handlers.accounts.update(command, holder)
    is_new_login = command.password is not None
    return success(request, written, logins.issue(holder.user_id, written.position) if is_new_login else None)


@router.delete("/me", response_model=Success, responses=problems(401, 403))
async def delete_account(request: Request, handlers: HandlersOfApp, holder: ProvenHolder) -> Response:
    """Delete one's account and tweets, for good. Nobody can take the name for 30 days."""
    return success(request, await handlers.accounts.delete(holder))


@router.post("/{user_id}/follow", response_model=Success, responses=problems(401, 403, 404))
async def follow_user(
    request: Request, user_id: PathId, handlers: HandlersOfApp, holder: Holder, key: Key, act: ActAs | None = None
) -> Response:
    """Follow a user, as oneself or, without a token, as the user whom the body names."""
    return success(request, await handlers.acts.follow(actor_of(holder, act.user_id if act else None), user_id, key))


@router.delete("/{user_id}/follow", response_model=Success, responses=problems(401, 403, 404))
async def unfollow_user(
    request: Request, user_id: PathId, handlers: HandlersOfApp, holder: Holder, act: ActAs | None = None
) -> Response:
    """No longer follow a user, as oneself or, without a token, as the user whom the body names."""
    return success(request, await handlers.acts.unfollow(actor_of(holder, act.user_id if act else None), user_id))
