"""Runs the write service: ``python -m services.write``."""

from services.common.settings import load
from services.common.telemetry import configure_logging
from services.common.web import serve
from services.write.app import create_app
from services.write.settings import WriteSettings


def main() -> None:
    """Serve until told to stop."""
    settings = load(WriteSettings)
    configure_logging("write", settings.log_level, settings.log_format)
    serve(create_app(settings), settings)


if __name__ == "__main__":
    main()
