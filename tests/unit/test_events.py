"""Events are decoded strictly: what does not fit is a dead letter, never a guess."""

from __future__ import annotations

import pytest

from services.common import events
from services.common.events import Malformed, TweetCreated, UserCreated


def test_an_event_survives_its_encoding() -> None:
    """What was appended is what is applied."""
    event = TweetCreated(user_id=7, content="naïve 🐦")
    assert events.decode(event.name, events.encode(event)) == event


def test_every_event_type_is_registered_under_its_own_name() -> None:
    """A type that is missing here would be written and then dead-lettered by its own author."""
    ours = {event_type for event_type in events.Event.__subclasses__() if event_type.__module__ == events.__name__}
    assert ours == set(events.EVENT_TYPES.values())
    assert all(name == event_type.name for name, event_type in events.EVENT_TYPES.items())


@pytest.mark.parametrize(
    ("name", "payload", "reason"),
    [
        ("tweet_vanished", b"{}", "unknown_type"),
        ("tweet_created", b"", "malformed_payload"),
        ("tweet_created", b"[]", "malformed_payload"),
        ("tweet_created", b'{"user_id":"7","content":"x"}', "malformed_payload"),
        ("tweet_created", b'{"user_id":true,"content":"x"}', "malformed_payload"),
        ("tweet_created", b'{"user_id":0,"content":"x"}', "malformed_payload"),
        ("tweet_created", b'{"user_id":9007199254740992,"content":"x"}', "malformed_payload"),
        ("tweet_created", b'{"user_id":7,"content":""}', "malformed_payload"),
        ("tweet_created", b'{"user_id":7,"content":"x","mood":"grim"}', "malformed_payload"),
        ("tweet_created", b'{"user_id":7,"content":"' + b"x" * 281 + b'"}', "malformed_payload"),
        ("tweet_created", b'{"user_id":7,"content":"\xff"}', "malformed_payload"),
        ("tweet_created", b'{"user_id":7,"content":"a\\u0000b"}', "malformed_payload"),
        ("tweet_created", b'{"user_id":7,"content":"\\ud800"}', "malformed_payload"),
        ("user_updated", b'{"user_id":7,"bio":"\\u0000"}', "malformed_payload"),
        ("epoch_started", b'{"epoch":2147483648}', "malformed_payload"),
        ("tweet_created", b"[" * 100_000, "malformed_payload"),
        ("user_created", b'{"username":"Ann\\n"}', "malformed_payload"),
        ("user_created", b'{"username":"a b"}', "malformed_payload"),
        ("user_created", b'{"username":"ann","id":1048576}', "malformed_payload"),
    ],
)
def test_what_does_not_fit_is_malformed_with_a_stable_reason(name: str, payload: bytes, reason: str) -> None:
    """The reason is part of every copy's tables, so it may not depend on a library's wording."""
    with pytest.raises(Malformed) as malformed:
        events.decode(name, payload)
    assert malformed.value.reason == reason


def test_no_event_has_room_for_a_secret() -> None:
    """HAZARDS 24: e-mail and password hash travel beside the log, never in it."""
    fields = {field for event_type in events.EVENT_TYPES.values() for field in event_type.__struct_fields__}
    ids = {"id", "user_id", "tweet_id", "follower_id", "followee_id", "in_reply_to_id", "quote_of_id"}
    assert fields == {"epoch", "position", "username", "display_name", "bio", "content", *ids}
    assert events.encode(UserCreated(username="ann")) == b'{"username":"ann"}'
