"""Settings come from the environment once; what is wrong with them is said in a line each."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError
from sqlalchemy import URL

from services.common.database import database_of, shown
from services.common.settings import MetricsPort, Port, PublicSettings, load


class Settings(PublicSettings):
    """A service with a secret of its own."""

    port: Port = 8000
    metrics_port: MetricsPort = 9100
    signing_key: SecretStr = Field(min_length=16, description="The key that signs.")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("SIGNING_KEY", "k" * 16)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///./data/twitter.db", "data/twitter.db"),
        ("sqlite:///twitter.db", "twitter.db"),
        ("sqlite:////var/lib/twitter.db", "/var/lib/twitter.db"),
        ("data/twitter.db", "data/twitter.db"),
        ("/var/lib/twitter.db", "/var/lib/twitter.db"),
    ],
)
def test_a_database_is_named_by_url_or_by_path(url: str, path: str) -> None:
    """Both forms that the seed's users know."""
    assert database_of(url) == Path(path)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:password@host/db",
        "sqlite+aiosqlite:///twitter.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        ":memory:",
        "sqlite:///twitter.db?mode=ro",
        "sqlite:///data/",
        "sqlite:///a\0b",
        "",
    ],
)
def test_any_other_database_is_refused(url: str) -> None:
    """In memory there would be nothing after a restart; another server speaks another SQL."""
    with pytest.raises(ValueError, match="must name a SQLite file"):
        database_of(url)


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql", "postgres"])
def test_postgresql_is_named_by_its_url(scheme: str) -> None:
    """As the server's own tools name it, too; there is one driver. Its password is not shown."""
    database = database_of(f"{scheme}://ann:hunter2@db.example:5433/twitter?sslmode=require")
    assert isinstance(database, URL)
    assert (database.drivername, database.host, database.port) == ("postgresql+psycopg", "db.example", 5433)
    assert (database.database, database.password, database.query["sslmode"]) == ("twitter", "hunter2", "require")
    assert shown(database) == "postgresql+psycopg://ann:***@db.example:5433/twitter?sslmode=require"


@pytest.mark.parametrize(
    "url", ["postgresql://", "postgresql://host", "postgresql+asyncpg://host/db", "postgres://h:x/db"]
)
def test_postgresql_without_a_database_or_by_another_driver_is_refused(url: str) -> None:
    """The server would otherwise take the user's name for the database."""
    with pytest.raises(ValueError, match="must look like postgresql"):
        database_of(url)


def test_the_environment_is_read_by_the_name_of_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    """In any case; an empty variable counts as not set."""
    monkeypatch.setenv("PORT", "8123")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")
    monkeypatch.setenv("METRICS_PORT", "")
    settings = load(Settings)
    assert (settings.port, settings.log_level, settings.metrics_port) == (8123, "warning", 9100)
    assert settings.redis_url == "redis://localhost:6379"


def test_settings_do_not_change() -> None:
    """They are read once at start."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_bad_variable_is_named_in_a_line_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to do, without its value and without a traceback; the exit code is 2."""
    monkeypatch.setenv("PORT", "hunter2-port")
    monkeypatch.setenv("REDIS_URL", "http://:hunter2@cache")
    monkeypatch.setenv("SIGNING_KEY", "hunter2")
    monkeypatch.setenv("LOG_LEVEL", "hunter2")
    monkeypatch.setenv("TRUSTED_PROXIES", "10.0.0.0/8, *hunter2")
    monkeypatch.setenv("CORS_ORIGINS", "https://example.org, https://example.org/hunter2")
    with pytest.raises(SystemExit) as stopped:
        load(Settings)
    lines = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert {line.partition(":")[0] for line in lines} == {
        "PORT",
        "REDIS_URL",
        "SIGNING_KEY",
        "LOG_LEVEL",
        "TRUSTED_PROXIES",
        "CORS_ORIGINS",
    }
    assert len(lines) == 6
    assert "hunter2" not in str(lines)
    assert "Traceback" not in str(lines)


def test_a_missing_variable_is_explained(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By the help text of its field."""
    monkeypatch.delenv("SIGNING_KEY")
    with pytest.raises(SystemExit):
        load(Settings)
    expected = "SIGNING_KEY: is not set. Set this environment variable; it is: The key that signs.\n"
    assert capsys.readouterr().err == expected


def test_secrets_are_not_printed() -> None:
    """Neither the key nor a password within a URL."""
    settings = Settings(redis_url="redis://:hunter2@host:6379", signing_key=SecretStr("hunter2" * 3))
    assert "hunter2" not in repr(settings) + str(settings)


def test_every_field_has_a_help_text() -> None:
    """The table in the docs is made of them; a default alone keeps the text of the type."""
    for name, field in Settings.model_fields.items():
        assert field.description, name
