"""Tokens: got with a password, renewed, revoked."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from services.common.auth import TokenPair
from services.common.web import problems
from services.write.commands import LogIn, Refresh
from services.write.routes.wire import (
    HandlersOfApp,
    LoginsOfApp,
    ProvenHolder,
    Success,
    check_key_header,
    issued,
    success,
)

# A key is checked, and has no other effect: tokens are minted anew each time, and who revokes again is refused anyway.
router = APIRouter(prefix="/auth", tags=["auth"], dependencies=[Depends(check_key_header)])


@router.post("/token", response_model=TokenPair, responses=problems(401, 403, 404))
async def log_in(command: LogIn, logins: LoginsOfApp) -> Response:
    """Tokens for a password."""
    return issued(await logins.log_in(command))


@router.post("/refresh", response_model=TokenPair, responses=problems(401, 403, 404))
async def refresh(command: Refresh, logins: LoginsOfApp) -> Response:
    """New tokens for a refresh token, which stays good itself."""
    return issued(await logins.refresh(command))


@router.post("/revoke", response_model=Success, responses=problems(400, 401, 403))
async def revoke(request: Request, handlers: HandlersOfApp, holder: ProvenHolder) -> Response:
    """Make all of one's tokens useless, everywhere; the one sent too."""
    return success(request, await handlers.accounts.revoke_tokens(holder))
