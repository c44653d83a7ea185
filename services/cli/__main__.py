"""``python -m services.cli`` is the same as ``twitter``."""

from services.cli.main import app

if __name__ == "__main__":
    app(prog_name="twitter")
