"""What a request's client is counted as."""

from __future__ import annotations

import pytest

from services.common.web import client_address


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("192.0.2.7", 4711), "192.0.2.7"),
        (("::ffff:192.0.2.7", 4711), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 0), "2001:db8:1:2::/64"),
        (("2001:DB8:1:2::", 0), "2001:db8:1:2::/64"),
        (("unknown", 0), "unknown"),
        (None, ""),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(client: tuple[str, int] | None, address: str) -> None:
    """Whoever has one IPv6 address has 2^64 of them."""
    assert client_address({"type": "http", "client": client}) == address
