"""Accounts and who follows whom."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from services.common.views import UserView
from services.common.web import problems
from services.write.commands import ActAs, CreateUser
from services.write.routes.wire import HandlersOfApp, PathId, Success, created, success

router = APIRouter(prefix="/users", tags=["users"])


@router.post("", status_code=201, response_model=UserView, responses=problems(409))
async def create_user(request: Request, command: CreateUser, handlers: HandlersOfApp) -> Response:
    """Open an account."""
    return created(request, await handlers.create_user(command))


@router.post("/{user_id}/follow", response_model=Success, responses=problems(404))
async def follow_user(request: Request, user_id: PathId, actor: ActAs, handlers: HandlersOfApp) -> Response:
    """Follow a user, as the user whom the body names."""
    return success(request, await handlers.follow(actor.user_id, user_id))


@router.delete("/{user_id}/follow", response_model=Success, responses=problems(404))
async def unfollow_user(request: Request, user_id: PathId, actor: ActAs, handlers: HandlersOfApp) -> Response:
    """No longer follow a user, as the user whom the body names."""
    return success(request, await handlers.unfollow(actor.user_id, user_id))
