"""What a service is told from outside: one typed class, read once at start from the environment.

Each service subclasses ServiceSettings. A field's description is its help text; the table in the docs is made of
them. Port and MetricsPort carry theirs in the type, so that a service only writes its default: ``port: Port = 8000``.
"""

from __future__ import annotations

import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.common.database_url import check_database_url
from services.common.log.redis_url import check_redis_url

USAGE_ERROR = 2


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def split_list(text: str) -> list[str]:
    """The items of a setting that is a list: with commas, and spaces if you like."""
    return [item for item in map(str.strip, text.split(",")) if item]


def _check_origins(origins: str) -> str:
    for origin in split_list(origins):
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in {"http", "https"} or f"{parts.scheme}://{parts.netloc}" != origin):
            raise ValueError("must be origins with commas, such as https://example.org, or * for all")
    return origins


def _check_networks(networks: str) -> str:
    try:
        for network in split_list(networks):
            ip_network(network)
    except ValueError:
        raise ValueError("must be addresses or networks with commas, such as 10.0.0.0/8, 192.0.2.7") from None
    return networks


RedisUrl = Annotated[str, AfterValidator(check_redis_url)]
DatabaseUrl = Annotated[str, AfterValidator(check_database_url)]
Port = Annotated[int, Field(ge=0, le=65535, description="Port of the API; 0 takes a free one and logs it.")]
MetricsPort = Annotated[
    int, Field(ge=0, le=65535, description="Port of the Prometheus metrics; 0 takes a free one and logs it.")
]
TrustedProxies = Annotated[
    str,
    AfterValidator(_check_networks),
    Field(
        description="Proxies in front, as addresses or networks with commas: "
        "from these X-Forwarded-For says who the client is."
    ),
]
AuthKeysFile = Annotated[
    Path | None,
    Field(description="The keys that tokens are signed with, a JWK Set. Without it nobody is given a token."),
]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
LogFormat = Annotated[Literal["auto", "json", "console"], BeforeValidator(_lower)]


class ServiceSettings(BaseSettings):
    """What every service is told. An empty variable counts as not set."""

    model_config = SettingsConfigDict(frozen=True, env_ignore_empty=True)

    redis_url: RedisUrl = Field(
        "redis://localhost:6379",
        description="The Redis or Valkey that holds the log; "
        "redis+sentinel://host1:26379,host2:26379/mymaster asks Sentinels for it.",
        repr=False,  # may hold a password
    )
    host: str = Field("127.0.0.1", description="Address to listen on, for the API and the metrics.")
    port: Port
    metrics_port: MetricsPort
    log_level: LogLevel = Field("info", description="Lowest level that is logged: debug, info, warning or error.")
    log_format: LogFormat = Field("auto", description="json, console, or auto: console on a terminal, else json.")


class PublicSettings(ServiceSettings):
    """What every service is told whose port strangers reach."""

    trusted_proxies: TrustedProxies = ""
    cache_url: RedisUrl | None = Field(
        None,
        description="A Redis that may lose everything, for what is not the log; without it REDIS_URL's is used.",
        repr=False,  # may hold a password
    )
    cors_origins: Annotated[str, AfterValidator(_check_origins)] = Field(
        "", description="Origins of web pages that may use the API, with commas, or * for all; none by default."
    )
    account_requests_per_second: int = Field(
        0, ge=0, description="Limit for each account, counted over 10 seconds; 0: none. See the page on the API."
    )
    address_requests_per_second: int = Field(
        0, ge=0, description="Limit for each address whose requests have no good token, over 10 seconds; 0: none."
    )
    requests_in_flight_max: int = Field(
        2000, ge=1, description="Requests under way in this process at most; more are 503 `overloaded` at once."
    )


SettingsType = TypeVar("SettingsType", bound=ServiceSettings)


def load(settings_type: type[SettingsType]) -> SettingsType:
    """Read the settings from the environment, or say on stderr what to set, a line each, and exit with code 2."""
    try:
        return settings_type()
    except ValidationError as error:
        for problem in explain(settings_type, error):
            sys.stderr.write(f"{problem}\n")
        sys.exit(USAGE_ERROR)


def explain(settings_type: type[ServiceSettings], error: ValidationError) -> list[str]:
    """One line for each variable that is wrong: its name, what is wrong, what it is. Never its value."""
    return [
        _explain_one(settings_type, str(problem["loc"][0]), problem["type"], problem["msg"])
        for problem in error.errors(include_input=False, include_url=False)
    ]


def _explain_one(settings_type: type[ServiceSettings], field_name: str, kind: str, message: str) -> str:
    reason = "is not set" if kind == "missing" else message.removeprefix("Value error, ")
    description = settings_type.model_fields[field_name].description
    return f"{field_name.upper()}: {reason}. Set this environment variable; it is: {description}"
