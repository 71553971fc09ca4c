"""The commands on the record: report, trace, confirm, rollup, verify.

What only one command needs is imported in that command: `sendtrace report` starts in half the time
that all imports take.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tracker.commands import (
    EXIT_FAILURE,
    EXIT_INVARIANT_VIOLATED,
    CampaignArgument,
    DatabaseOption,
    FormatOption,
    RunOption,
    TableOrJson,
    TableOrJsonOption,
    exit_on_error,
    find_selected_campaigns,
    open_database,
)
from tracker.errors import UsageError
from tracker.output.tables import RowFormat
from tracker.text import escape_control_characters

if TYPE_CHECKING:
    from tracker.audit.invariants import QueryInvariant

WATCH_INTERVAL_SECONDS = 1.0

EARLIEST_DAY, LATEST_DAY = date(1970, 1, 2), date(9998, 12, 31)
"""Range of days that begin and end at valid instants in every time zone."""


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
            help="Number of the message (the first is 0), else a customer id, an email address or a"
            " mobile number."
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


class ConfirmedOutcome(StrEnum):
    """An outcome of an unconfirmed message that a person can record."""

    DELIVERED = "delivered"
    BOUNCED = "bounced"


@exit_on_error
def confirm(
    context: typer.Context,
    campaign: Annotated[str, typer.Argument(help="Name of the campaign.")],
    number: Annotated[int, typer.Argument(help="Number of the message; the first is 0.")],
    outcome: Annotated[
        ConfirmedOutcome,
        typer.Argument(help="Outcome of the message; bounced means a hard bounce."),
    ],
    run: RunOption = None,
    database: DatabaseOption = None,
) -> None:
    """Record the outcome of a message that got no reply.

    Such a message is in the gateway, with the detail `unconfirmed`. It isn't sent again. Without a
    receipt, a bounce or this command it counts as not delivered after a day, or after the time
    that `unconfirmed_after` sets.

    Examples: sendtrace confirm newsletter 4711 delivered
    """
    from tracker.record.journal import Author, open_entry
    from tracker.record.receipts import Receipt, apply_receipts
    from tracker.record.unconfirmed import load_batch_of_unconfirmed
    from tracker.status import Status, Step

    is_delivered = outcome is ConfirmedOutcome.DELIVERED
    status = Status.DELIVERED if is_delivered else Status.HARD_BOUNCED
    with open_database(database, context.obj) as opened:
        with opened.read() as connection:
            [selected] = find_selected_campaigns(connection, campaign, run)
            batch, _ = load_batch_of_unconfirmed(connection, selected, number)
        now = batch.campaign.clock.now()
        author = Author(worker="sendtrace confirm")
        with open_entry(opened, batch, Step.DELIVER, author, started_at=now) as entry:
            # A receipt may have settled it until the entry held the batch.
            _, attempt = load_batch_of_unconfirmed(entry.connection, selected, number)
            detail = "recorded by sendtrace confirm"
            apply_receipts(entry, [Receipt(number, attempt, status, now, detail=detail)])
    print(f"message {number} of campaign {selected.name}: {status.slug}")


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
            about = {"campaigns": [origin.as_json() for origin in origins]}
            print(json.dumps([result.as_json() | about for result in results], indent=2))
        else:
            lines = [format_heading("Invariants", origin, zone) for origin in origins]
            lines += (line for result in results for line in format_invariant_result(result))
            print(escape_control_characters("\n".join(lines)))
        if not all(result.is_satisfied for result in results):
            raise typer.Exit(EXIT_INVARIANT_VIOLATED)
        if any(result.unknown is not None for result in results):
            raise typer.Exit(EXIT_FAILURE)

    return verify
