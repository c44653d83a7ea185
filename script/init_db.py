#!/usr/bin/env python
"""Makes sure that there are 3 users and 5 tweets. Run it as often as you like; what is there is left as it is.

    python script/init_db.py

They are written through the API, so they are in the log, in the database and in every reader. If the services run
(at READ_SERVICE_URL and WRITE_SERVICE_URL, or those of `twitter dev`, or on ports 8000 and 8001), those are used. If
nothing runs, the whole system is started, on REDIS_URL if that is set and on DATABASE_URL, and stopped again.

Needs what requirements.txt names, and nothing else.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that it runs in a plain clone

from services.cli.errors import INTERRUPTED, exit_code_of  # noqa: E402
from services.cli.seed import seed  # noqa: E402
from services.cli.settings import DATA_DIR  # noqa: E402
from services.common.errors import TwitterError  # noqa: E402
from services.common.telemetry import configure_logging  # noqa: E402


def main() -> int:
    """Seed, and say what there is."""
    configure_logging("init_db", "warning")
    os.environ.setdefault("PYTHONPATH", str(ROOT))  # for the services, if they are started
    try:
        seeded = seed(Path(os.environ.get("DATA_DIR", DATA_DIR)))
    except TwitterError as error:
        print(f"init_db: {error}", file=sys.stderr)
        return exit_code_of(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    print(f"{len(seeded.users)} users and {len(seeded.tweets)} tweets are there, {seeded.created} of them new")
    for username, user_id in seeded.users.items():
        print(f"  user {user_id}  @{username}")
    for content, tweet_id in seeded.tweets.items():
        print(f"  tweet {tweet_id}  {content}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
