"""The command ``twitter import``."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import typer

from services.cli.console import out, print_json, progress
from services.cli.errors import FAILED, INTERRUPTED, USAGE, CommandFailed
from services.cli.importing.api import Api
from services.cli.importing.importer import CONCURRENCY, Importer
from services.cli.importing.journal import Journal
from services.cli.importing.report import Report, as_table, make_report
from services.cli.importing.rows import KINDS, Inputs, Kind, read_rows
from services.cli.settings import DATA_DIR, DataOption, System, find_system
from services.cli.tokens import tokens_if_there_are_keys

FINGERPRINT_CHARS: Final = 16

_Files = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="FILE...", exists=True, dir_okay=False, help="CSV or NDJSON files of users, follows and tweets."
    ),
]
_Edges = Annotated[
    list[Path] | None,
    typer.Option(exists=True, dir_okay=False, help="An edge list, `a b` a line: people who follow each other."),
]
_TweetsTxt = Annotated[
    list[Path] | None,
    typer.Option(exists=True, dir_okay=False, help="A tweet a line, dealt in turn to the people of the other files."),
]


def import_(
    files: _Files = None,
    edges: _Edges = None,
    tweets_txt: _TweetsTxt = None,
    data_dir: DataOption = DATA_DIR,
    journal: Annotated[Path | None, typer.Option(help="Where to keep what is done. [default: in the data]")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at a time.")] = CONCURRENCY,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Load users, follows and tweets through the public API, each once.

    CSV files name their columns: username[,email[,password]] or follower,followee or username,content or
    user_id,content. NDJSON rows have the same fields, and "type": "user", "follow" or "tweet" if they differ.
    Interrupt it at any time: the same command goes on where it stopped. Exit code 1 if rows were refused.
    """
    inputs = Inputs(tuple(files or ()), tuple(edges or ()), tuple(tweets_txt or ()))
    if not (inputs.files or inputs.edges or inputs.tweets_txt):
        raise CommandFailed("nothing to import: name files, --edges or --tweets-txt", USAGE)
    journal_path = journal or journal_path_of(data_dir, inputs)
    report = import_rows(inputs, find_system(data_dir), journal_path, concurrency=concurrency)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if report.refused_by_code:
        raise typer.Exit(FAILED)


def journal_path_of(data_dir: Path, inputs: Inputs) -> Path:
    """Where the journal of these inputs is by default."""
    return data_dir / "import" / f"{inputs.fingerprint()[:FINGERPRINT_CHARS]}.journal"


def import_rows(inputs: Inputs, system: System, journal_path: Path, *, concurrency: int = CONCURRENCY) -> Report:
    """Run an import with a progress bar. Raises CommandFailed, with exit code 130 when interrupted."""
    totals = Counter(row.kind for row in read_rows(inputs))
    started = time.monotonic()
    with (
        closing(Api(system.write_url, system.read_url, tokens_if_there_are_keys(system.auth_keys_file))) as api,
        Journal(journal_path, inputs.fingerprint()) as journal,
        progress() as bar,
    ):
        tasks = {kind: bar.add_task(f"{kind}s", total=totals[kind], start=False) for kind in KINDS if totals[kind]}

        def on_row(kind: Kind | None) -> None:
            if kind is not None:
                bar.start_task(tasks[kind])  # the first row of its kind starts its clock
                bar.advance(tasks[kind])

        importer = Importer(api, journal, on_row, concurrency)
        try:
            importer.run(lambda: read_rows(inputs), journal.seconds_since_change(time.time()))
        except KeyboardInterrupt as interrupt:
            raise CommandFailed(
                "interrupted: the same command goes on where this one stopped", INTERRUPTED
            ) from interrupt
        return make_report(importer.tally, journal.refusals, time.monotonic() - started, journal_path)


def _print_report(report: Report) -> None:
    console = out()
    console.print(as_table(report))
    console.print(f"{report.seconds:,.1f} s, {report.requests_per_second:,.0f} requests a second")
    for code, count in sorted(report.refused_by_code.items()):
        console.print(f"refused: {count:,} {code}")
    if report.refusals_file:
        console.print(f"each refusal, with the reason: {report.refusals_file}", markup=False)
