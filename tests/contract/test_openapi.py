"""Both APIs do what their OpenAPI documents say, whatever is thrown at them."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from tests.support.system import System

EXAMPLES_EACH = 20


def check_every_operation(base_url: str, *expected: str) -> None:
    """Generate requests for each documented operation, good and bad ones, and validate every answer.

    Left out: that whatever fits a schema is accepted. Not blank, no NUL, a real e-mail address and a position that
    is not in the future cannot be said in a schema. Schemathesis's own pytest plugin does not know this version of
    pytest, so hypothesis is driven by hand.
    """
    schema = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    checked = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @settings(max_examples=EXAMPLES_EACH, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def check(case: Case[Any]) -> None:
            case.call_and_validate(excluded_checks=[positive_data_acceptance])

        check()
        checked.add(operation.label)
    assert set(expected) <= checked


def test_the_read_api_keeps_its_word(running: System) -> None:
    """No 500, no undocumented status or media type, every body as its schema says."""
    check_every_operation(
        running.readers[0].url,
        "GET /tweets/{tweet_id}",
        "GET /tweets/{tweet_id}/replies",
        "GET /tweets/{tweet_id}/likes",
        "GET /tweets/{tweet_id}/retweets",
        "GET /users/me",
        "GET /users/{user_id}",
        "GET /users/by-username/{username}",
        "GET /users/{user_id}/tweets",
        "GET /users/{user_id}/followers",
        "GET /users/{user_id}/following",
        "GET /users/{user_id}/home",
    )


def test_the_write_api_keeps_its_word(running: System) -> None:
    """The same for writes; what the schema forbids is refused."""
    check_every_operation(
        running.writers[0].url,
        "POST /users",
        "POST /tweets",
        "DELETE /tweets/{tweet_id}",
        "POST /tweets/{tweet_id}/like",
        "DELETE /tweets/{tweet_id}/like",
        "POST /tweets/{tweet_id}/retweet",
        "DELETE /tweets/{tweet_id}/retweet",
        "POST /users/{user_id}/follow",
        "DELETE /users/{user_id}/follow",
        "PATCH /users/me",
        "DELETE /users/me",
        "POST /auth/token",
        "POST /auth/refresh",
        "POST /auth/revoke",
    )
