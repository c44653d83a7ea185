"""A server that does nothing: one ASGI callable on uvicorn, with the settings that the services use.

``python -m bench.baselines.bare``, told by PORT and BODY_BYTES. Reads the body of a POST, and answers everything with a
JSON body of that size.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope


def answering(body: bytes) -> ASGI3Application:
    """The callable."""
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            is_more = True
            while is_more:
                message = await receive()
                is_more = message["type"] == "http.request" and message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


if __name__ == "__main__":
    uvicorn.run(
        answering(b'"%s"' % (b"x" * (int(os.environ["BODY_BYTES"]) - 2))),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        ws="none",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
