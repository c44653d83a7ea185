"""What the write service is told from outside."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator

from services.common.log.redis_url import is_sentinel
from services.common.settings import AuthKeysFile, MetricsPort, Port, PublicSettings


def _check_http_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("must look like http://localhost:8000")
    return url


class WriteSettings(PublicSettings):
    """The environment of ``python -m services.write``."""

    port: Port = 8001
    metrics_port: MetricsPort = 9101
    read_service_url: Annotated[str, AfterValidator(_check_http_url)] = Field(
        "http://localhost:8000", description="The read service, asked whether a tweet or a user exists."
    )
    email_hash_key: SecretStr = Field(
        min_length=16,
        description="Secret under which e-mail addresses are hashed, so that each is used once; the same for ever.",
    )
    auth_keys_file: AuthKeysFile = None
    auth_required: bool = Field(
        False, description="Refuse writes without a token, and so anonymous ones; needs AUTH_KEYS_FILE."
    )
    sign_ins_per_minute: int = Field(
        0, ge=0, description="Limit for each address on POST /users and POST /auth/token together; 0: none."
    )
    log_bytes_max: int = Field(
        0,
        ge=0,
        description="Memory for the log in bytes, past 70 % of which writes are refused; "
        "0: Redis's `maxmemory`, or 2 GiB where it has none.",
    )
    log_durability: Literal["warn", "required"] = Field(
        "warn", description="A Redis that may lose acknowledged writes: warn of it, or (required) write nothing to it."
    )

    log_replicas_min: int = Field(
        0,
        ge=0,
        description="Replicas of Redis that have a write on disk before it is acknowledged; "
        "where REDIS_URL names Sentinels, at least 1.",
    )

    @property
    def replicas_min(self) -> int:
        """How many replicas are waited for: a failover keeps only what one of them has."""
        return max(self.log_replicas_min, int(is_sentinel(self.redis_url)))

    @field_validator("auth_required")
    @classmethod
    def _check_has_keys(cls, is_required: bool, info: ValidationInfo) -> bool:
        if is_required and info.data.get("auth_keys_file") is None:
            raise ValueError("needs the keys that tokens are signed with: set AUTH_KEYS_FILE too")
        return is_required
