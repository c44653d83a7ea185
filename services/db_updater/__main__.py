"""Runs the owner: ``python -m services.db_updater``."""

from services.common.settings import load
from services.common.telemetry import configure_logging
from services.common.web import serve
from services.db_updater.app import create_app
from services.db_updater.settings import OwnerSettings


def main() -> None:
    """Serve until told to stop. Exits with 1 when the owner may not start or go on, with 2 for bad settings."""
    settings = load(OwnerSettings)
    configure_logging("db-updater", settings.log_level, settings.log_format)
    serve(create_app(settings), settings)


if __name__ == "__main__":
    main()
