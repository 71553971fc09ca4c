"""The commands on the record: report, trace, rollup, verify.

What only one command needs is imported in that command: `sendtrace report` starts in half the time
that all imports take.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import date
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

from tracker.errors import SendtraceError, UnreadableRecord, UsageError
from tracker.output.tables import RowFormat
from tracker.text import escape_control_characters

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tracker.audit.invariants import QueryInvariant
    from tracker.record.catalog import Campaign
    from tracker.store.database import Database

WATCH_INTERVAL_SECONDS = 1.0

EXIT_FAILURE = 1
EXIT_INVARIANT_VIOLATED = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""The shell's convention for a command whose reader has ended: 128 + SIGPIPE."""

EARLIEST_DAY, LATEST_DAY = date(1970, 1, 2), date(9998, 12, 31)
"""Range of days that begin and end at valid instants in every time zone."""

P = ParamSpec("P")
R = TypeVar("R")

CampaignArgument = Annotated[
    str | None, typer.Argument(help="Name of a campaign. Default: all campaigns of the run.")
]
RunOption = Annotated[
    int | None, typer.Option("--run", metavar="N", help="Number of the run. Default: the latest.")
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="Database URL. Default: SENDTRACE_DATABASE_URL, else SQLite in SENDTRACE_HOME.",
    ),
]


class TableOrJson(StrEnum):
    """Output formats of results that don't have the rows and columns of a CSV file."""

    TABLE = "table"
    JSON = "json"


FormatOption = Annotated[RowFormat, typer.Option(help="Output format.")]
TableOrJsonOption = Annotated[TableOrJson, typer.Option(help="Output format.")]


def exit_on_error(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a user can cause into one line on stderr and an exit code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = command(*args, **kwargs)
            if sys.stdout is not None:  # None if the parent process has closed it
                sys.stdout.flush()
        except typer.Exit:
            raise
        except SendtraceError as error:
            _print_error(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            _print_error("interrupted")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            _discard_stdout()
            raise typer.Exit(EXIT_BROKEN_PIPE) from None
        except OSError as error:
            _discard_stdout()
            file = f"{error.filename}: " if error.filename else ""
            _print_error(f"{file}{error.strerror or error}")
            raise typer.Exit(EXIT_FAILURE) from None
        return result

    return wrapped


def _print_error(text: str) -> None:
    print(f"sendtrace: {escape_control_characters(text)}", file=sys.stderr)


def _discard_stdout() -> None:
    """Redirect stdout to nowhere, so that Python doesn't fail again to flush it at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def open_database(
    url: str | None, migrate_tables: "Callable[[Database], None] | None" = None
) -> "Iterator[Database]":
    """Open the database of a command, the configured one without `url`, with its tables up to date.

    A higher layer provides `migrate_tables` for all tables, as the object of the commands' context.
    """
    from tracker.settings import load_settings
    from tracker.store.database import check_reachable, connect
    from tracker.store.migrate import migrate

    settings = load_settings(database_url=url)
    try:
        is_recorded = bool(settings.database_url) or (settings.home / "sendtrace.db").exists()
    except OSError as error:
        raise UsageError(f"SENDTRACE_HOME: can't be read: {error.strerror}") from None
    if not is_recorded:
        raise UsageError(f"nothing is recorded in {settings.home}; run sendtrace simulate first")
    with closing(connect(settings.resolved_database_url, must_exist=True)) as database:
        check_reachable(database)
        with database.readable_errors():
            (migrate_tables or migrate)(database)
            yield database


def find_selected_campaigns(
    connection: "Connection", name: str | None, run: int | None
) -> "list[Campaign]":
    """Return the campaigns that a command was asked for.

    Raises:
        NotFound: there is no such campaign or run.
        UnreadableRecord: a row holds a value that sendtrace doesn't write.
    """
    from tracker.record.catalog import find_campaigns

    try:
        return find_campaigns(connection, name, run)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        selection = "campaigns" if name is None else f"campaign {name}"
        raise UnreadableRecord(f"the record of {selection} can't be read: {error}") from None


@exit_on_error
def report(
    context: typer.Context,
    campaign: CampaignArgument = None,
    run: RunOption = None,
    format: FormatOption = RowFormat.TABLE,
    watch: Annotated[
        bool, typer.Option("--watch", help="Repeat the report every second, until Ctrl-C.")
    ] = False,
    days: Annotated[
        bool, typer.Option("--days", help="Print the engagement by local day instead.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the meaning below each line of the report.")
    ] = False,
    database: DatabaseOption = None,
) -> None:
    """Print the Live Monitoring Report.

    Examples: sendtrace report · sendtrace report diwali-email --watch · sendtrace report --explain
    · sendtrace report --days · sendtrace report --format json | jq '.[].sent.total'
    """
    from tracker.output.report_formats import render_days, render_reports
    from tracker.queries.report import make_reports
    from tracker.settings import load_settings

    if explain and (days or format is not RowFormat.TABLE):
        raise UsageError(
            "--explain: works only with the table of the report; leave out --days and --format"
        )
    zone = load_settings().zone
    with open_database(database, context.obj) as opened:

        def render() -> str:
            with opened.read() as connection:
                campaigns = find_selected_campaigns(connection, campaign, run)
                reports = make_reports(connection, campaigns)
            if days:
                return render_days(reports, format, zone)
            return render_reports(reports, format, zone, explain=explain)

        if not watch:
            print(render())
        elif format is RowFormat.TABLE and sys.stdout.isatty():
            _redraw_until_interrupted(render)
        else:
            while True:
                print(render(), flush=True)
                time.sleep(WATCH_INTERVAL_SECONDS)


def _redraw_until_interrupted(render: Callable[[], str]) -> None:
    """Show a text on the terminal's alternate screen, and update it every second."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        while True:
            live.update(Text(render(), no_wrap=True), refresh=True)
            time.sleep(WATCH_INTERVAL_SECONDS)


@exit_on_error
def trace(
    context: typer.Context,
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    message: Annotated[
        str,
        typer.Argument(
            help="Number of the message (the first is 0), customer id, email address or mobile"
            " number."
        ),
    ],
    run: RunOption = None,
    format: TableOrJsonOption = TableOrJson.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Print the timeline of one message.

    A line is a status change with its step, worker and task, an action of the recipient, or a
    refused receipt.

    Examples: sendtrace trace diwali-email 4711 · sendtrace trace diwali-email
    asha@example.com --format json
    """
    from tracker.output.report_text import format_timeline
    from tracker.queries.message_lookup import find_message_number
    from tracker.queries.timeline import read_timeline
    from tracker.settings import load_settings

    zone = load_settings().zone
    with open_database(database, context.obj) as opened, opened.read() as connection:
        [selected] = find_selected_campaigns(connection, campaign, run)
        number = find_message_number(connection, selected, message)
        timeline = read_timeline(connection, selected, number)
    if format is TableOrJson.JSON:
        print(json.dumps(timeline.as_json(), indent=2))
    else:
        print(escape_control_characters(format_timeline(timeline, zone)))


@exit_on_error
def rollup(
    context: typer.Context,
    day: Annotated[
        str | None,
        typer.Option(
            "--date", metavar="YYYY-MM-DD", help="Recount this day. Default: count new events."
        ),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Update the daily engagement counts.

    Beat does so at 1 am. With --date, the day is recounted from its events, in the zone of
    SENDTRACE_TIMEZONE, and the totals of its campaigns are summed again. Recount each day after
    a change of the time zone.

    Examples: sendtrace rollup · sendtrace rollup --date 2026-11-24
    """
    from tracker.output.report_text import format_rollup
    from tracker.queries.campaign_state import read_origins
    from tracker.record.rollup import recount_day, roll_up_engagement
    from tracker.settings import load_settings

    zone = load_settings().zone
    recounted_day = None if day is None else _parse_day(day)
    with open_database(database, context.obj) as opened:
        if recounted_day is None:
            rollups = roll_up_engagement(opened, zone)
        else:
            rollups = recount_day(opened, recounted_day, zone)
        with opened.read() as connection:
            origins = read_origins(connection, [change.campaign for change in rollups])
    for change, origin in zip(rollups, origins, strict=True):
        print(escape_control_characters(format_rollup(change, origin, zone)))
    if not rollups:
        print("nothing to roll up")


def _parse_day(text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--date {text}: not a date; expected YYYY-MM-DD") from None
    if not EARLIEST_DAY <= day <= LATEST_DAY:
        raise UsageError(f"--date {text}: out of range; expected {EARLIEST_DAY} to {LATEST_DAY}")
    return day


def make_verify_command(
    load_invariants: "Callable[[], Sequence[QueryInvariant]]",
) -> Callable[..., None]:
    """Return the command that checks the invariants of a layer and of those below it."""

    @exit_on_error
    def verify(
        context: typer.Context,
        campaign: CampaignArgument = None,
        run: RunOption = None,
        format: TableOrJsonOption = TableOrJson.TABLE,
        database: DatabaseOption = None,
    ) -> None:
        """Check the invariants against the recorded rows.

        For each violated invariant, the number of wrong rows and the first of them are printed.
        Some invariants apply to finished runs only. Before the end of a run, they are not known.

        Exit codes: 0 all invariants hold · 1 none is violated, but some are not known, because the
        run isn't finished · 2 wrong usage or input · 3 an invariant is violated.

        Examples: sendtrace verify · sendtrace verify diwali-email --format json
        """
        from tracker.audit.invariants import check_invariants
        from tracker.output.report_text import format_heading, format_invariant_result
        from tracker.queries.campaign_state import read_origins
        from tracker.settings import load_settings

        zone = load_settings().zone
        with (
            open_database(database, context.obj) as opened,
            opened.read_only_analytics() as connection,
        ):
            campaigns = find_selected_campaigns(connection, campaign, run)
            origins = read_origins(connection, campaigns)
            results = check_invariants(connection, campaigns, load_invariants())
        if format is TableOrJson.JSON:
            print(json.dumps([result.as_json() for result in results], indent=2))
        else:
            lines = [format_heading("Invariants", origin, zone) for origin in origins]
            lines += (line for result in results for line in format_invariant_result(result))
            print(escape_control_characters("\n".join(lines)))
        if not all(result.is_satisfied for result in results):
            raise typer.Exit(EXIT_INVARIANT_VIOLATED)
        if any(result.unknown is not None for result in results):
            raise typer.Exit(EXIT_FAILURE)

    return verify
