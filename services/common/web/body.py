"""Request bodies: read whole and bounded before any route runs, and refused unless they are strict JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.types import Message, Receive

from services.common.errors import ClientError

BODY_BYTES_MAX: Final = 64 * 1024
LINGER_BYTES_MAX: Final = 1024 * 1024
LINGER_SECONDS_MAX: Final = 1.0

_decoder = msgspec.json.Decoder()


class ClientGone(Exception):
    """The client went away before it had sent its request."""


class BodyTooLarge(ClientError):
    """The body is, or says it is, larger than BODY_BYTES_MAX."""

    def __init__(self) -> None:
        super().__init__(413, "body_too_large", f"The body is larger than {BODY_BYTES_MAX} bytes")


async def take_body(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """Read and check the request's body.

    Raises BodyTooLarge, another ClientError for a body that is not strict JSON, or ClientGone.
    """
    declared = headers.get(b"content-length")
    if declared is not None and int(declared) > BODY_BYTES_MAX:
        raise BodyTooLarge
    body = await read_body(receive)
    if body:
        check_json(body, headers.get(b"content-type", b""))
    return body


async def read_body(receive: Receive) -> bytes:
    """Read the whole body. Raises BodyTooLarge as soon as it is, ClientGone when the client leaves."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLarge
        if not message.get("more_body", False):
            return bytes(body)


def check_json(body: bytes, content_type: bytes) -> None:
    """Refuse a body that is not declared as JSON, or is not strict JSON in UTF-8.

    Python's own parser, which FastAPI uses afterwards, takes lone surrogates, NaN and UTF-16; what it makes of
    them would fail deep inside, when it is stored or echoed.
    """
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise ClientError(415, "unsupported_media_type", "Send the body as JSON, with Content-Type: application/json")
    try:
        _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ClientError(400, "bad_json", "The body is not valid JSON in UTF-8") from error


def replay(body: bytes, receive: Receive) -> Receive:
    """A receive that gives the body that has been read already, then whatever comes."""
    is_given = False

    async def receive_again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def linger(receive: Receive) -> None:
    """Read on for a bounded while, so that a client that is still sending gets to read its refusal.

    Closing at once would reset the connection, and the answer might be lost with it.
    """
    bytes_read = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS_MAX):
            while bytes_read < LINGER_BYTES_MAX:
                message = await receive()
                bytes_read += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
