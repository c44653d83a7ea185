"""The token in an Authorization header, or the reason why there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.auth import bearer_token
from services.common.auth.tokens import TOKEN_CHARS_MAX
from services.common.errors import ClientError


@pytest.mark.parametrize("header", ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "Bearer   a.b.c", "Bearer a.b.c "])
def test_the_scheme_has_no_case(header: str) -> None:
    """RFC 9110: schemes are compared without regard to case, one or more spaces follow."""
    assert bearer_token(header.encode()) == "a.b.c"


def test_no_header_is_a_missing_token() -> None:
    """Its code tells a client that it has to log in, and not that its token is wrong."""
    with pytest.raises(ClientError) as caught:
        bearer_token(None)
    assert (caught.value.status, caught.value.code) == (401, "token_missing")


@pytest.mark.parametrize(
    "header", ["", " ", "Bearer", "Bearer ", "Bearer   ", "a.b.c", "Basic dTpw", "Bearer:a", " Bearer a", "Bearer\ta"]
)
def test_another_scheme_or_no_token_is_malformed(header: str) -> None:
    """A header is there, but it is not ours."""
    with pytest.raises(ClientError) as caught:
        bearer_token(header.encode())
    assert (caught.value.status, caught.value.code) == (401, "token_malformed")


def test_a_header_that_is_longer_than_any_of_ours_is_malformed() -> None:
    """Spaces cost a client nothing, and good headers are remembered as they came."""
    assert bearer_token(b"Bearer" + b" " * 10 + b"x" * TOKEN_CHARS_MAX) == "x" * TOKEN_CHARS_MAX
    with pytest.raises(ClientError) as caught:
        bearer_token(b"Bearer" + b" " * 11 + b"x" * TOKEN_CHARS_MAX)
    assert caught.value.code == "token_malformed"


@given(header=st.binary() | st.builds(b"Bearer ".__add__, st.binary()))
def test_any_header_gives_a_token_or_401(header: bytes) -> None:
    """Nothing else comes of any header."""
    try:
        token = bearer_token(header)
    except ClientError as error:
        token = error.code
    assert token
