"""``python -m tests.support.owner_to_kill DIRECTORY REDIS_URL STEP``: an owner that ends by SIGKILL at a step.

It does so when it reaches the step for the second time (for a step of its start or of a recovery, the first time).
Its batches have BATCH_ENTRIES_MAX entries.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.common.log.client import EventLog
from services.db_updater.applier import Step
from services.db_updater.metrics import OwnerMetrics
from services.db_updater.owner import Owner
from tests.support.owner import open_volume

BATCH_ENTRIES_MAX = 7


def main(directory: Path, redis_url: str, fatal_step: Step) -> None:
    """Follow the log until the step is reached."""
    passes_left = 0 if fatal_step.startswith(("start:", "recovery:")) else 1

    def at(step: Step) -> None:
        nonlocal passes_left
        if step is fatal_step:
            if passes_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            passes_left -= 1

    with closing(open_volume(directory)) as volume, closing(EventLog(redis_url)) as log:
        metrics = OwnerMetrics(CollectorRegistry())
        owner = Owner(
            volume, log, metrics, retention_seconds=0, batch_entries_max=BATCH_ENTRIES_MAX, grace_seconds=0.05, at=at
        )
        owner.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Step(sys.argv[3]))
