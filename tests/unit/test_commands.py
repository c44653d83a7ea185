"""What a client may ask for, and what is refused before anything happens."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.common import events
from services.common.events import CONTENT_CHARS_MAX, TweetCreated
from services.common.ids import POSITION_MAX
from services.write.commands import Act, ActAs, CreateTweet, CreateUser, LogIn, UpdateAccount

USER: dict[str, Any] = {"username": "ada", "email": "ada@example.org"}
TWEET: dict[str, Any] = {"content": "hello", "user_id": 1}


@pytest.mark.parametrize("username", ["a", "A_9", "x" * 30])
def test_a_username_is_up_to_thirty_letters_digits_and_underscores(username: str) -> None:
    """Its case is kept; that ADA and ada are the same name is for the log to say."""
    assert CreateUser.model_validate({**USER, "username": username}).username == username


@pytest.mark.parametrize("username", ["", "x" * 31, "a b", "a-b", "é", "a\n", "\na", "\u0430", "a\0"])
def test_any_other_username_is_refused(username: str) -> None:
    """A newline at the end, and a Cyrillic letter, are the ones a careless pattern lets through."""
    with pytest.raises(ValidationError):
        CreateUser.model_validate({**USER, "username": username})


@pytest.mark.parametrize(
    ("email", "kept"),
    [
        ("Ada@EXAMPLE.org", "Ada@example.org"),
        ("a+b@example.org", "a+b@example.org"),
        ("ada@bücher.example.org", "ada@bücher.example.org"),
        ("ada@xn--bcher-kva.example.org", "ada@bücher.example.org"),
    ],
)
def test_an_email_is_kept_normalised(email: str, kept: str) -> None:
    """So that one address has one form."""
    assert CreateUser.model_validate({**USER, "email": email}).email == kept


@pytest.mark.parametrize(
    "email",
    ["", "ada", "ada@", "@example.org", "a b@example.org", "ada@localhost", "Ada <ada@example.org>", "a@b@c.org"],
)
def test_what_is_no_email_is_refused_without_being_quoted(email: str) -> None:
    """The message goes to the client and to nobody's log with the address in it."""
    with pytest.raises(ValidationError) as refusal:
        CreateUser.model_validate({**USER, "email": email})
    assert refusal.value.errors()[0]["msg"].startswith("value is not a valid email address")


@pytest.mark.parametrize("password", ["x" * 8, "x" * 256, "pass wörd"])
def test_a_password_never_shows(password: str) -> None:
    """Neither in a repr nor in a dump."""
    command = CreateUser.model_validate({**USER, "password": password})
    assert command.password is not None
    assert command.password.get_secret_value() == password
    assert password not in repr(command) + command.model_dump_json()


@pytest.mark.parametrize("password", ["", "x" * 7, "x" * 257, "xxxxxxxx\0", "xxxxxxxx\ud800", 12345678])
def test_a_password_of_another_length_or_type_is_refused(password: object) -> None:
    """Nor one that UTF-8 cannot hold."""
    with pytest.raises(ValidationError):
        CreateUser.model_validate({**USER, "password": password})


def test_a_user_without_a_password_is_allowed() -> None:
    """As in the seed."""
    assert CreateUser.model_validate(USER).password is None


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        ("x" * 280, "x" * 280),
        ("🦜" * 280, "🦜" * 280),
        ("e\u0301" * 280, "é" * 280),  # composes to half its length
        ("\u1100\u1161\u11a8" * 280, "각" * 280),  # three code points to one
        ("\u0390" * 280, "\u0390" * 280),
        (" padded \n", " padded \n"),
        ("👩\u200d💻", "👩\u200d💻"),  # an invisible joiner inside is part of the picture
    ],
)
def test_content_is_counted_in_code_points_after_normalisation(content: str, kept: str) -> None:
    """1 to 280 of them, whatever they take in bytes."""
    assert CreateTweet.model_validate({**TWEET, "content": content}).content == kept


@pytest.mark.parametrize(
    "content",
    [
        "x" * 281,
        "e\u0301" * 281,
        "\u0958" * 141,  # normalises to twice its length
        "a" + "\u0301" * 30_000,  # would take seconds to normalise
    ],
)
def test_content_that_is_too_long_is_refused(content: str) -> None:
    """Even where only normalisation makes it so."""
    with pytest.raises(ValidationError, match="at most 280"):
        CreateTweet.model_validate({**TWEET, "content": content})


@pytest.mark.parametrize(
    "content", ["", " ", "\t\n\r", "\u00a0\u2003\u3000", "\u200b\u200d\ufeff", "\u3164", "\u2800", "\ufe0f", "\u202e"]
)
def test_content_that_shows_nothing_is_refused(content: str) -> None:
    """White space, and what Unicode calls a letter or symbol and no font draws."""
    with pytest.raises(ValidationError, match="blank"):
        CreateTweet.model_validate({**TWEET, "content": content})


@pytest.mark.parametrize("content", ["a\0b", "\0", "a\ud800", "\udfff"])
def test_content_that_cannot_be_stored_everywhere_is_refused(content: str) -> None:
    """NUL ends a string in C, and a lone surrogate has no UTF-8."""
    with pytest.raises(ValidationError, match="must not contain"):
        CreateTweet.model_validate({**TWEET, "content": content})


@given(st.text(min_size=1, max_size=400))
def test_accepted_content_is_always_a_valid_event(content: str) -> None:
    """Otherwise it would be acknowledged, and then be a dead letter."""
    try:
        kept = CreateTweet.model_validate({**TWEET, "content": content}).content
    except ValidationError:
        return
    assert kept == unicodedata.normalize("NFC", content)
    assert 1 <= len(kept) <= CONTENT_CHARS_MAX
    event = TweetCreated(user_id=1, content=kept)
    assert events.decode("tweet_created", events.encode(event)) == event


@pytest.mark.parametrize("user_id", [1, POSITION_MAX])
def test_an_id_is_a_positive_integer_below_2_to_53(user_id: int) -> None:
    """A safe JSON number."""
    assert ActAs.model_validate({"user_id": user_id}).user_id == user_id


@pytest.mark.parametrize("user_id", [0, -1, POSITION_MAX + 1, 2**63, 10**40, "1", 1.0, True, [1], {"id": 1}])
def test_nothing_else_is_an_id(user_id: object) -> None:
    """Types are strict: "1", 1.0 and true are somebody's mistake."""
    with pytest.raises(ValidationError):
        ActAs.model_validate({"user_id": user_id})
    with pytest.raises(ValidationError):
        CreateTweet.model_validate({**TWEET, "user_id": user_id})


def test_a_misspelt_field_is_refused() -> None:
    """Were it ignored, ``userid`` would make an anonymous like, and the client would hear of a success."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        Act.model_validate({"userid": 1})


@pytest.mark.parametrize("command", [Act, ActAs])
def test_who_acts_may_be_left_out(command: type[Act | ActAs]) -> None:
    """A token says it; without one a like is anonymous and a follow is refused (services/write/acts.py)."""
    assert command.model_validate({}).user_id is None
    assert command.model_validate({"user_id": None}).user_id is None


def test_one_logs_in_with_a_name_or_an_email_and_changes_something() -> None:
    """Neither both nor nothing."""
    for body in ({}, {"username": "ada", "email": "ada@example.org"}):
        with pytest.raises(ValidationError, match="not both"):
            LogIn.model_validate({**body, "password": "correct horse"})
    with pytest.raises(ValidationError, match="say what to change"):
        UpdateAccount.model_validate({})
    assert UpdateAccount.model_validate({"name": "Ada  \u200b", "bio": " \u200b"}).bio == ""
