"""From a command to its event, and from the log's answer to what the client sees. No HTTP here."""

from __future__ import annotations

from dataclasses import dataclass

from services.write.accounts import Accounts
from services.write.acts import Acts
from services.write.tweets import Tweets


@dataclass(frozen=True, slots=True)
class Handlers:
    """One method for each command. Each raises ClientError, or OperationalError where it should be tried again."""

    accounts: Accounts
    tweets: Tweets
    acts: Acts
