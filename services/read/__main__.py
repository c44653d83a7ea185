"""Runs the reader: ``python -m services.read``."""

from services.common.settings import load
from services.common.telemetry import configure_logging
from services.common.web import serve
from services.read.app import create_app
from services.read.settings import ReadSettings


def main() -> None:
    """Serve until told to stop. Exits with 1 when the reader may not start or go on, with 2 for bad settings."""
    settings = load(ReadSettings)
    configure_logging("read", settings.log_level, settings.log_format)
    serve(create_app(settings), settings)


if __name__ == "__main__":
    main()
