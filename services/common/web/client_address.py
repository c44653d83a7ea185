"""Where a request comes from: what limits count by where nobody has proved who they are."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

from starlette.types import Scope

Client = tuple[str, int]
"""Address and port, as the server names who has sent a request."""

NETWORK_BITS_V6: Final = 64
"""One customer has a whole network of this size; its addresses are as good as one."""
_REMEMBERED_MAX: Final = 4096


def client_address(scope: Scope) -> str:
    """The client of a request: an IPv4 address, an IPv6 network, or empty where there is none (a Unix socket).

    The server has put it into the scope: the peer of the connection, or behind one of TRUSTED_PROXIES the rightmost
    address of X-Forwarded-For that is none of them.
    """
    return address_of(scope.get("client"))


def address_of(client: Client | None) -> str:
    """The same, of a client as the server names it."""
    return "" if client is None else _canonical(client[0])


@lru_cache(_REMEMBERED_MAX)
def _canonical(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text  # a proxy that is trusted may say what it likes, such as "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), NETWORK_BITS_V6), strict=False))
