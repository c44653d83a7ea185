"""Very many HTTP requests at the same moment; httpx's pool grows with the square of what waits in it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers by lower-case name, and the JSON body."""

    status: int
    headers: Mapping[str, str]
    body: Any


async def post(base_url: str, path: str, body: Mapping[str, object] | None) -> Answer:
    """One POST on a connection of its own."""
    address = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    content = b"" if body is None else json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", f"Host: {address.netloc}", "Connection: close", f"Content-Length: {len(content)}"]
    if content:
        head.append("Content-Type: application/json")
    writer.write("\r\n".join([*head, "", ""]).encode() + content)
    response = await reader.read()
    writer.close()
    await writer.wait_closed()
    status_and_headers, _, text = response.partition(b"\r\n\r\n")
    status, *lines = status_and_headers.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(status.split()[1]), headers, json.loads(text))
