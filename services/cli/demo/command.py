"""The command ``twitter demo``."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from services.cli.console import err, out, plain, print_json, progress, say
from services.cli.demo.metrics import read_metrics
from services.cli.demo.private_system import private_system
from services.cli.demo.reading import Reader, run_checks
from services.cli.demo.society import Act, Society
from services.cli.demo.summary import Summary, as_table, summarize
from services.cli.dev.state import DevState, running_state
from services.cli.errors import FAILED, UNAVAILABLE, CommandFailed
from services.cli.importing.api import Api
from services.cli.importing.command import import_rows, journal_path_of
from services.cli.importing.importer import CONCURRENCY
from services.cli.importing.journal import Journal
from services.cli.importing.lanes import Lanes
from services.cli.importing.report import Report
from services.cli.importing.rows import Inputs, read_rows
from services.cli.owner import owner_position
from services.cli.settings import DATA_DIR, DataOption, system_of
from services.cli.show_log import read_report
from services.cli.verify import run_verification
from services.common.log.client import EventLog

SEED: Final = 20_261_122
CATCH_UP_SECONDS_MAX: Final = 60.0
POLL_SECONDS: Final = 0.05
HOME_SHOWN: Final = 5
DISAGREEMENTS_SHOWN: Final = 10

_File = typer.Option(exists=True, dir_okay=False)


def demo(
    graph: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="An edge list. [default: a small invented sample]")
    ] = None,
    tweets: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Tweets, one a line; needs --graph.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Who likes and retweets what.")] = SEED,
    use_running: Annotated[
        bool, typer.Option("--use-running", help="Use the `twitter dev` that runs, not a system of the demo's own.")
    ] = False,
    data_dir: DataOption = DATA_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Start a system, load a society into it, let it like and retweet, and read everything back.

    Prints what a reader sees and a summary. Exit code 1 if anything read is not what was written, or if the
    database is not what the log says.
    """
    inputs = _choose_inputs(graph, tweets)
    with _system(data_dir, use_running=use_running) as (state, directory):
        summary = _run(state, inputs, directory, random.Random(seed), show=not as_json)  # noqa: S311 - it must repeat
    print_json(summary) if as_json else out().print(as_table(summary))
    for disagreement in summary.disagreements[:DISAGREEMENTS_SHOWN]:
        err().print(plain(disagreement), style="red", markup=False)
    if summary.disagreements or not summary.verify_holds:
        raise typer.Exit(FAILED)


def sample_inputs() -> Inputs:
    """The invented sample that ships with the project."""
    sample = Path(str(files("services.cli") / "sample"))
    return Inputs(files=(sample / "users.csv", sample / "follows.csv", sample / "tweets.ndjson"))


def _choose_inputs(graph: Path | None, tweets: Path | None) -> Inputs:
    if graph is None and tweets is None:
        return sample_inputs()
    return Inputs(edges=(graph,) if graph else (), tweets_txt=(tweets,) if tweets else ())


@contextmanager
def _system(data_dir: Path, *, use_running: bool) -> Iterator[tuple[DevState, Path]]:
    """A system and a directory for the journal."""
    if use_running:
        state = running_state(data_dir)
        if state is None:
            raise CommandFailed(
                f"no `twitter dev` runs on {data_dir}: start it, or leave out --use-running", UNAVAILABLE
            )
        yield state, data_dir
        return
    with TemporaryDirectory(prefix="twitter-demo-") as directory:
        say("starting a system of the demo's own ...")
        with private_system(Path(directory)) as state:
            yield state, Path(directory)


def _run(state: DevState, inputs: Inputs, directory: Path, chance: random.Random, *, show: bool) -> Summary:
    """1. Import. 2. Like and retweet. 3. Read everything back. 4. Show some of it. 5. Verify and count."""
    system = system_of(state)
    journal_path = journal_path_of(directory, inputs)
    imported = import_rows(inputs, system, journal_path)
    with Journal(journal_path, inputs.fingerprint()) as journal:
        society = Society.imported(read_rows(inputs), journal)
    acts = society.act(chance)
    with closing(Api(system.write_url, system.read_url)) as api:
        api.learn_position()
        acting_seconds = _act(api, acts)
        _wait_for_owner(system.owner_url, api.position)
        reads, reading_seconds, disagreements = _read_back(api, society, chance)
        if show:
            _show(api, society)
    with closing(EventLog(system.redis_url)) as log:
        log_report = read_report(system, log)
    return summarize(
        samples={name: read_metrics(url) for name, url in state.metrics_urls.items()},
        log=log_report,
        imported=imported,
        verification=run_verification(system),
        writes=(_requests(imported) + len(acts), imported.seconds + acting_seconds),
        reads=(reads, reading_seconds),
        disagreements=disagreements,
    )


def _act(api: Api, acts: list[Act]) -> float:
    """Like and retweet; returns the seconds it took. Doing one twice is doing it once, so all may be repeated."""
    started = time.monotonic()
    with progress() as bar:
        task = bar.add_task("likes and retweets", total=len(acts))

        def do(act: Act) -> None:
            answer = api.write_repeatably(f"/tweets/{act.tweet_id}/{act.kind}", {"user_id": act.user_id})
            if answer.status != 200:
                raise CommandFailed(f"{act.kind} of {act.tweet_id} by {act.user_id}: {answer.status} {answer.code}")
            bar.advance(task)

        with Lanes(CONCURRENCY, do, api.stopping) as lanes:
            for number, act in enumerate(acts):
                lanes.put(number, act)
    return time.monotonic() - started


def _wait_for_owner(owner_url: str, position: int) -> None:
    deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
    while (applied := owner_position(owner_url).position) < position:
        if time.monotonic() > deadline:
            raise CommandFailed(f"the db-updater is at {applied}, not at {position}: see `twitter log`", UNAVAILABLE)
        time.sleep(POLL_SECONDS)


def _read_back(api: Api, society: Society, chance: random.Random) -> tuple[int, float, list[str]]:
    """Read everything once and popular things often; how many reads, how long, and what was wrong."""
    reader = Reader(api, society)
    checks = [*reader.checks(), *reader.popular(chance)]
    started = time.monotonic()
    with progress() as bar:
        task = bar.add_task("reads checked", total=len(checks))
        wrong = run_checks(checks, threading.Event(), lambda: bar.advance(task))
    return len(checks), time.monotonic() - started, wrong


def _show(api: Api, society: Society) -> None:
    """What a reader sees: the user with the most followers, her home timeline, and the most liked tweet."""
    console = out()
    user_id = max(society.usernames, key=lambda user: (len(society.followers[user]), -user))
    user = api.read(f"/users/{user_id}").body
    console.print(f"\nGET /users/{user_id}", style="bold")
    console.print(f"  @{user['username']}, since {user['created_at']}: {user['followers_count']:,} followers, "
                  f"follows {user['following_count']:,}")  # fmt: skip
    console.print(f"\nGET /users/{user_id}/home?limit={HOME_SHOWN}", style="bold")
    for tweet in api.read(f"/users/{user_id}/home?limit={HOME_SHOWN}").body:
        _show_tweet(console, tweet)
    if society.tweets:
        tweet_id = max(society.tweets, key=lambda tweet: (len(society.tweets[tweet].likers), -tweet))
        console.print(f"\nGET /tweets/{tweet_id}", style="bold")
        _show_tweet(console, api.read(f"/tweets/{tweet_id}").body)
    console.print()


def _show_tweet(console: Console, tweet: dict[str, Any]) -> None:
    console.print(
        f"  @{tweet['user']['username']}: {plain(tweet['content'])}  "
        f"({tweet['likes']:,} likes, {tweet['retweets']:,} retweets)",
        markup=False,
    )


def _requests(imported: Report) -> int:
    return sum(sum(counts.values()) for counts in (imported.applied, imported.existed, imported.refused))
