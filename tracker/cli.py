"""The commands on the record: report, trace, verify, rollup."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import date, tzinfo
from enum import StrEnum
from functools import wraps
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text
from sqlalchemy import Connection

from tracker.audit.invariants import Invariant, check_invariants
from tracker.clock import to_datetime
from tracker.errors import SendtraceError, UnreadableRecord, UsageError
from tracker.output.report_text import (
    as_text,
    escape_control_characters,
    format_finding,
    format_reports_csv,
    format_timeline,
)
from tracker.queries import timeline
from tracker.queries.report import Report, make_reports
from tracker.record import catalog
from tracker.record import rollup as rollups
from tracker.record.rollup import CampaignRollup
from tracker.settings import load_settings
from tracker.store.database import Database, check_reachable, connect
from tracker.store.migrate import migrate

WATCH_INTERVAL_SECONDS = 1.0
"""Seconds between two reports of ``report --watch``."""

EXIT_FAILURE = 1
EXIT_INVARIANT_VIOLATED = 3
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""As shells have it for a command whose reader has gone: 128 + SIGPIPE."""

P = ParamSpec("P")
R = TypeVar("R")

Campaign = Annotated[str | None, typer.Argument(help="A campaign's name. Default: all of a run.")]
RunOption = Annotated[
    int | None, typer.Option("--run", metavar="N", help="The run. Default: the latest.")
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="Where the record is. Default: SENDTRACE_DATABASE_URL, else SQLite in SENDTRACE_HOME.",
    ),
]


class ReportFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class TableOrJson(StrEnum):
    """What has no rows and columns has no csv."""

    TABLE = "table"
    JSON = "json"


DATABASE_MIGRATIONS: list[Callable[[Database], None]] = [migrate]
"""What is done to a database before it is read: each floor that has tables in it adds its own."""


def exit_on_error(command: Callable[P, R]) -> Callable[P, R]:
    """Turn errors that a person can cause into one message and the right exit code."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            result = command(*args, **kwargs)
            if sys.stdout is not None:  # closed by whoever started us
                sys.stdout.flush()
        except typer.Exit:
            raise
        except SendtraceError as error:
            print(f"sendtrace: {escape_control_characters(str(error))}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            print("sendtrace: interrupted", file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            _discard_stdout()
            raise typer.Exit(EXIT_BROKEN_PIPE) from None
        except OSError as error:
            _discard_stdout()
            where = f"{error.filename}: " if error.filename else ""
            print(
                escape_control_characters(f"sendtrace: {where}{error.strerror or error}"),
                file=sys.stderr,
            )
            raise typer.Exit(EXIT_FAILURE) from None
        return result

    return wrapped


def _discard_stdout() -> None:
    """Nobody reads it, or nothing fits: what is left in it must not be tried again at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def open_database(url: str | None) -> Iterator[Database]:
    """The database that a command was told, or that is configured, its tables up to date."""
    settings = load_settings(database_url=url)
    try:
        there = bool(settings.database_url) or (settings.home / "sendtrace.db").exists()
    except OSError as error:
        raise UsageError(f"SENDTRACE_HOME can't be read: {error.strerror}") from None
    if not there:
        raise UsageError(f"nothing is recorded in {settings.home}; run sendtrace simulate first")
    with closing(connect(settings.resolved_database_url, must_exist=True)) as database:
        check_reachable(database)
        with database.readable_errors():
            for prepare in DATABASE_MIGRATIONS:
                prepare(database)
            yield database


def find_selected_campaigns(
    connection: Connection, name: str | None, run: int | None
) -> list[catalog.Campaign]:
    """The campaigns that a command was told; :exc:`UnreadableRecord` where a row of theirs is damaged."""
    try:
        return catalog.find_campaigns(connection, name, run)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        which = "campaigns" if name is None else f"campaign {name}"
        raise UnreadableRecord(f"the record of {which} can't be read: {error}") from None


@exit_on_error
def report(
    campaign: Campaign = None,
    run: RunOption = None,
    format: Annotated[ReportFormat, typer.Option(help="How to print it.")] = ReportFormat.TABLE,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat it until Ctrl-C.")] = False,
    database: DatabaseOption = None,
) -> None:
    """Print the Live Monitoring Report.

    Examples: sendtrace report · sendtrace report diwali-email --watch ·
    sendtrace report --format json | jq '.[].sent.total'
    """
    with open_database(database) as record:
        if not watch:
            print(_render_reports(_read_selected_reports(record, campaign, run), format))
        elif format is ReportFormat.TABLE and sys.stdout.isatty():
            with Live(console=Console(), auto_refresh=False, screen=True) as live:
                while True:
                    shown = _render_reports(_read_selected_reports(record, campaign, run), format)
                    live.update(Text(shown, no_wrap=True), refresh=True)
                    time.sleep(WATCH_INTERVAL_SECONDS)
        else:
            while True:
                print(
                    _render_reports(_read_selected_reports(record, campaign, run), format),
                    flush=True,
                )
                time.sleep(WATCH_INTERVAL_SECONDS)


def _read_selected_reports(
    database: Database, campaign: str | None, run: int | None
) -> list[Report]:
    with database.read() as connection:
        return make_reports(connection, find_selected_campaigns(connection, campaign, run))


def _render_reports(reports: Sequence[Report], format: ReportFormat) -> str:
    match format:
        case ReportFormat.JSON:
            return json.dumps([report.as_json() for report in reports], indent=2)
        case ReportFormat.CSV:
            return escape_control_characters(format_reports_csv(reports).rstrip("\n"))
        case ReportFormat.TABLE:
            zone = load_settings().zone
            return escape_control_characters(
                "\n\n\n".join(as_text(report, zone=zone) for report in reports)
            )


@exit_on_error
def trace(
    campaign: Annotated[str, typer.Argument(help="The campaign's name.")],
    number: Annotated[int, typer.Argument(help="The message's number, from 0.")],
    run: RunOption = None,
    format: Annotated[TableOrJson, typer.Option(help="How to print it.")] = TableOrJson.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Tell the story of one message: every change of its status, and who made it.

    Example: sendtrace trace diwali-email 4711
    """
    with open_database(database) as record, record.read() as connection:
        [found] = find_selected_campaigns(connection, campaign, run)
        story = timeline.read_timeline(connection, found, number)
    if format is TableOrJson.JSON:
        print(json.dumps(story.as_json(), indent=2))
    else:
        print(escape_control_characters(format_timeline(story)))


@exit_on_error
def rollup(
    day: Annotated[
        str | None,
        typer.Option(
            "--date", metavar="YYYY-MM-DD", help="Count this day anew. Default: what's new."
        ),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Bring the daily counts of opened and clicked up to date; a beat does so at 1 am.

    With a date, that day of SENDTRACE_TIMEZONE is counted from the events themselves, and all days
    of its campaigns are added up anew: so after a change of the time zone.

    Examples: sendtrace rollup · sendtrace rollup --date 2026-11-24
    """
    zone = load_settings().zone
    wanted = None if day is None else _parse_day(day)
    with open_database(database) as record:
        done = (
            rollups.roll_up_engagement(record, zone)
            if wanted is None
            else rollups.recount_day(record, wanted, zone)
        )
    for each in done:
        print(escape_control_characters(format_rollup_line(each, zone)))
    if not done:
        print("nothing to roll up")


EARLIEST_DAY, LATEST_DAY = date(1970, 1, 2), date(9998, 12, 31)
"""Days that begin and end at instants that can be recorded, in every time zone."""


def _parse_day(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        found = date.min
    if not EARLIEST_DAY <= found <= LATEST_DAY:
        raise UsageError(f"--date {text}: is no day; expected one like 2026-11-24")
    return found


def format_rollup_line(each: CampaignRollup, zone: tzinfo) -> str:
    """What a rollup changed of a campaign, in one line."""
    changes = ", ".join(
        f"{count:+,} {kind.slug}" for kind, count in sorted(each.changes.items()) if count
    )
    return (
        f"{each.campaign.name} · run {each.campaign.run_id}: {changes or 'nothing new'}"
        f"   as of {to_datetime(each.as_of).astimezone(zone):%-d %b %H:%M}"
    )


def make_verify_command(invariants: Sequence[Invariant]) -> Callable[..., None]:
    """The command that checks ``invariants``: each floor of the house brings its own."""

    @exit_on_error
    def verify(
        campaign: Campaign = None,
        run: RunOption = None,
        format: Annotated[TableOrJson, typer.Option(help="How to print it.")] = TableOrJson.TABLE,
        database: DatabaseOption = None,
    ) -> None:
        """Check the invariants against the rows; exit 3 and name the first rows that are wrong.

        Examples: sendtrace verify · sendtrace verify diwali-email --format json
        """
        with open_database(database) as record, record.read_only_analytics() as connection:
            found = find_selected_campaigns(connection, campaign, run)
            findings = check_invariants(connection, found, invariants)
        if format is TableOrJson.JSON:
            print(json.dumps([finding.as_json() for finding in findings], indent=2))
        else:
            lines = (line for finding in findings for line in format_finding(finding))
            print(escape_control_characters("\n".join(lines)))
        if not all(finding.holds for finding in findings):
            raise typer.Exit(EXIT_INVARIANT_VIOLATED)

    return verify
