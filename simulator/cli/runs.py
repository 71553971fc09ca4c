"""The commands `sendtrace runs` and `sendtrace compare`."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli.output import check_writable, write_output
from tracker.clock import to_datetime
from tracker.commands import (
    DatabaseOption,
    FormatOption,
    TableOrJson,
    TableOrJsonOption,
    exit_on_error,
    open_database,
)
from tracker.errors import NotFound, UsageError
from tracker.output.tables import RowFormat, print_rows
from tracker.settings import load_settings
from tracker.text import escape_control_characters

if TYPE_CHECKING:
    from simulator.results.archive.store import StoredResult

EXIT_THRESHOLD_MISSED = 99
"""A threshold was not met, or a figure got worse."""

MAX_RUN_ID_DIGITS = 18

DEFAULT_RUN_COUNT = 20

COLUMNS = (
    "run", "started", "scenario", "seed", "messages", "seconds", "throughput", "to_gateway_p95",
    "state", "result", "titles",
)  # fmt: skip


@exit_on_error
def runs(
    limit: Annotated[
        int,
        typer.Option(
            "--last", metavar="N", min=1, max=1_000_000, help="Number of runs, latest first."
        ),
    ] = DEFAULT_RUN_COUNT,
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
) -> None:
    """List the recorded runs, latest first, with the state and the result of each.

    Examples: sendtrace runs · sendtrace runs --last 100 --format csv
    """
    from simulator.figures import Unit, format_figure
    from simulator.results.archive.run_list import list_runs, make_run_row
    from simulator.schema import check_all_tables

    column_units = {
        "seconds": Unit.SECONDS,
        "throughput": Unit.RATE,
        "to_gateway_p95": Unit.SECONDS,
    }
    zone = load_settings().zone
    with open_database(database, check_all_tables) as record, record.read() as connection:
        rows = [make_run_row(run) for run in list_runs(connection, limit)]
    if format is RowFormat.TABLE:
        for row in rows:
            started = to_datetime(row["started"]).astimezone(zone)
            row["started"] = f"{started:%Y-%m-%d %H:%M:%S}"
            for column, unit in column_units.items():
                row[column] = format_figure(row[column], unit)
    else:
        for row in rows:
            row["started"] = to_datetime(row["started"]).isoformat()
    print_rows(rows, COLUMNS, format)


BeforeArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's number, or its summary.json.")
]
AfterArgument = Annotated[str, typer.Argument(metavar="RUN", help="The later run.")]
AllOption = Annotated[
    bool, typer.Option("--all", help="Show all figures, also those that are not judged.")
]
HtmlOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write a page with charts of both runs.")
]
FailOption = Annotated[
    bool, typer.Option("--fail-on-regression", help="Exit 99 if a figure got worse.")
]


@exit_on_error
def compare(
    before: BeforeArgument,
    after: AfterArgument,
    everything: AllOption = False,
    format: TableOrJsonOption = TableOrJson.TABLE,
    html: HtmlOption = None,
    fail: FailOption = False,
    database: DatabaseOption = None,
) -> None:
    """Compare two runs figure by figure, and separate changes from noise.

    A run of `simulate --repeat` stands for all of its repetitions.

    Exit codes: 0 compared · 2 a run that does not exist or can't be read · 99 a figure got worse,
    with --fail-on-regression.

    Examples: sendtrace compare 3 7 · sendtrace compare 3 7 --html change.html ·
    sendtrace compare baseline/summary.json 7 --fail-on-regression
    """
    from simulator.pages.comparison_text import format_run_comparison
    from simulator.results.archive.comparison import compare_runs

    for run in (before, after):
        if html is not None and html in (Path(run), Path(run) / "summary.json"):
            raise UsageError(
                f"--html {html}: got a file that is compared; expected another file to write"
            )
    check_writable("--html", html)
    comparison = compare_runs(_load_runs(before, database), _load_runs(after, database))
    if fail and comparison.unjudged_reason is not None:
        raise UsageError(
            f"nothing can be judged: {comparison.unjudged_reason}; expected finished runs"
        )
    if html is not None:
        from simulator.pages.comparison_page import render_comparison_page

        write_output("--html", html, render_comparison_page(comparison))
    if format is TableOrJson.JSON:
        print(json.dumps(comparison.as_json(), indent=2))
    else:
        print(escape_control_characters(format_run_comparison(comparison, show_all=everything)))
    if fail and comparison.regressions:
        raise typer.Exit(EXIT_THRESHOLD_MISSED)


def _load_runs(run: str, url: str | None) -> "list[StoredResult]":
    """Load a run and its repetitions by its number or its file."""
    from simulator.results.archive.store import load_repeated_results, load_result_file
    from simulator.schema import check_all_tables

    if run.isdecimal():
        if len(run) > MAX_RUN_ID_DIGITS:
            raise NotFound(f"run {run[:MAX_RUN_ID_DIGITS]}… does not exist; see sendtrace runs")
        with open_database(url, check_all_tables) as record, record.read() as connection:
            return load_repeated_results(connection, int(run))
    if not os.path.exists(run):  # False, too, for a name that is too long
        raise UsageError(f"{run}: neither a run's number nor a file; see sendtrace runs")
    return load_result_file(Path(run))
