"""What a client may ask for, checked as strictly as the log needs it.

Types are strict: no ``"1"`` for an id, no booleans. Unknown fields are refused, not ignored, because most fields are
optional: a misspelt ``user_id`` would turn a like into an anonymous one, which is answered 200 and counted.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final, Self

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from services.common.events import BIO_CHARS_MAX, CONTENT_CHARS_MAX, NAME_CHARS_MAX, USERNAME_PATTERN
from services.common.ids import POSITION_MAX
from services.write.text import check_storable, profile_text, tweet_content

EMAIL_CHARS_MAX: Final = 254
PASSWORD_CHARS_MIN: Final = 8
PASSWORD_CHARS_MAX: Final = 256


def _email(text: str) -> str:
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise PydanticCustomError(
            "value_error", "value is not a valid email address: {reason}", {"reason": str(error)}
        ) from error


def _password(password: SecretStr) -> SecretStr:
    text = password.get_secret_value()
    if not PASSWORD_CHARS_MIN <= len(text) <= PASSWORD_CHARS_MAX:
        raise ValueError(f"must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters")
    check_storable(text)
    return password


Id = Annotated[int, Field(ge=1, le=POSITION_MAX, examples=[42])]
Username = Annotated[str, Field(pattern=USERNAME_PATTERN, examples=["ada"])]
Email = Annotated[
    str,
    Field(max_length=EMAIL_CHARS_MAX, examples=["ada@example.org"], json_schema_extra={"format": "email"}),
    AfterValidator(_email),
]
Password = Annotated[
    SecretStr,
    AfterValidator(_password),
    Field(json_schema_extra={"minLength": PASSWORD_CHARS_MIN, "maxLength": PASSWORD_CHARS_MAX}),
]
DisplayName = Annotated[
    str,
    AfterValidator(partial(profile_text, chars_max=NAME_CHARS_MAX)),
    Field(description="As others see it; empty for none.", json_schema_extra={"maxLength": NAME_CHARS_MAX}),
]
Bio = Annotated[
    str,
    AfterValidator(partial(profile_text, chars_max=BIO_CHARS_MAX)),
    Field(description="About oneself; empty for nothing.", json_schema_extra={"maxLength": BIO_CHARS_MAX}),
]
Content = Annotated[
    str,
    AfterValidator(tweet_content),
    Field(
        description="Visible text; its length is counted in code points after NFC normalisation.",
        examples=["Hello, world"],
        json_schema_extra={"minLength": 1, "maxLength": CONTENT_CHARS_MAX},
    ),
]


_WHO_ACTS: Final = "Who acts: needed without a token. With one it is oneself, and may be left out."


class Command(BaseModel):
    """Base of the request bodies."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class CreateUser(Command):
    """Open an account."""

    username: Username
    email: Email
    password: Password | None = None


class UpdateAccount(Command):
    """Change one's account; what is left out stays as it is."""

    name: DisplayName | None = None
    bio: Bio | None = None
    email: Email | None = None
    password: Password | None = None

    @model_validator(mode="after")
    def _check_is_any(self) -> Self:
        if not any(value is not None for value in (self.name, self.bio, self.email, self.password)):
            raise ValueError("say what to change: name, bio, email or password")
        return self


class LogIn(Command):
    """Prove who one is."""

    username: Username | None = Field(default=None, description="This or ``email``.")
    email: Email | None = None
    password: Password

    @model_validator(mode="after")
    def _check_is_one(self) -> Self:
        if (self.username is None) == (self.email is None):
            raise ValueError("give a username or an email, not both")
        return self


class Refresh(Command):
    """Go on after an access token has expired."""

    refresh_token: str


class CreateTweet(Command):
    """Publish a tweet."""

    content: Content
    user_id: Id | None = Field(default=None, description=_WHO_ACTS)
    in_reply_to_id: Id | None = Field(default=None, description="The tweet that this one replies to.")
    quote_of_id: Id | None = Field(default=None, description="The tweet that this one quotes.")


class Act(Command):
    """Like or retweet; without ``user_id`` anonymously."""

    user_id: Id | None = Field(
        default=None, description="Who acts; with a token oneself. With neither the act is anonymous and counts anew."
    )


class ActAs(Command):
    """What nobody can do anonymously: follow, delete, take back."""

    user_id: Id | None = Field(default=None, description=_WHO_ACTS)
