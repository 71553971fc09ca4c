"""Commands for rule developers that need only the database: list, explain, diff."""

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from tracker.clock import Instant, from_datetime, to_datetime
from tracker.commands import DatabaseOption, FormatOption, RunOption, exit_on_error, open_database
from tracker.errors import UsageError
from tracker.monitoring import CheckVerdict
from tracker.output.report_text import format_heading
from tracker.output.tables import Row, RowFormat, print_rows
from tracker.queries.campaign_state import Origin, read_origins
from tracker.queries.message_lookup import find_number_by_recipient
from tracker.record import catalog
from tracker.settings import load_settings
from tracker.text import escape_control_characters, pluralize
from workers.checks.base import all_checks
from workers.rules.as_of import Rules
from workers.rules.changes import apply_rule_changes, find_ineffective_settings
from workers.rules.explain import Explanation, build_explanation
from workers.rules.rejudge import VerdictDiff, compare_rules

CampaignOption = Annotated[
    str, typer.Option("--campaign", metavar="NAME", help="A recorded campaign.")
]

CustomerOption = Annotated[
    str | None,
    typer.Option(metavar="CUSTOMER", help="The customer's id, email address or mobile number."),
]

MessageOption = Annotated[
    int | None, typer.Option(metavar="NUMBER", help="The message number, instead of --customer.")
]

AtOption = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Judge as of this time, such as 2026-11-30T17:24, in the time zone of the settings"
        " unless it names another one.",
    ),
]


def parse_time_option(text: str) -> Instant:
    """Return the value of --at as an instant; raise `UsageError` if it isn't a time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--at {text}: not a time; expected one such as 2026-11-30T17:24"
        ) from None
    return from_datetime(moment if moment.tzinfo else moment.replace(tzinfo=load_settings().zone))


@exit_on_error
def list_checks(format: FormatOption = RowFormat.TABLE) -> None:
    """List the installed checks in their order.

    Examples: sendtrace checks list · sendtrace checks list --format csv
    """
    rows: list[Row] = [
        {
            "step": check.step.value,
            "order": check.order,
            "check": check.name,
            "reason": check.reason.slug,
            "category": check.reason.category.value,
            "rule": check.summary,
        }
        for check in all_checks()
    ]
    print_rows(rows, ("step", "order", "check", "reason", "category", "rule"), format)


@exit_on_error
def explain_message(
    context: typer.Context,
    campaign: CampaignOption,
    customer: CustomerOption = None,
    message: MessageOption = None,
    at: AtOption = None,
    run: RunOption = None,
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Show the verdict of every check on a message, now or at an earlier time.

    The values that each check read are shown beside its verdict. With --at, the customer's bounces,
    opt-outs and recent messages are those of that time; everything else, and what services answer,
    is as of now. The outcome on record is shown below the table.

    Examples: sendtrace checks explain --campaign diwali-email --customer c17 ·
    sendtrace checks explain --campaign diwali-email --message 4711 --at 2026-11-30T17:24
    """
    if (customer is None) == (message is None):
        raise UsageError("expected either --customer CUSTOMER or --message NUMBER, and not both")
    with open_database(database, context.obj) as record:
        with record.read() as connection:
            [recorded] = catalog.find_campaigns(connection, campaign, run)
            if customer is not None:
                message = find_number_by_recipient(connection, recorded, customer)
        rules = Rules(campaign=recorded, checks=all_checks())
        instant = recorded.clock.now() if at is None else parse_time_option(at)
        explanation = build_explanation(record, rules, message or 0, instant)
    rows, about = _verdict_rows(explanation), _explanation_to_json(explanation)
    if format is RowFormat.JSON:
        print(json.dumps({**about, "checks": rows}, indent=2, default=str))
        return
    if format is RowFormat.TABLE:
        _print_heading(f"Checks of message {message}", explanation.origin)
    columns: tuple[str, ...] = ("step", "order", "check", "verdict", "looked at")
    if format is RowFormat.CSV:
        columns = (*columns, *about)
    print_rows([{**row, **about} for row in rows], columns, format)
    if format is RowFormat.TABLE:
        label = "now" if at is None else f"at {_format_time(to_datetime(instant))}"
        print(escape_control_characters(_format_outcome(explanation, label)))


def _print_heading(title: str, origin: Origin) -> None:
    heading = format_heading(title, origin, load_settings().zone)
    print(escape_control_characters(heading), end="\n\n")


def _verdict_rows(explanation: Explanation) -> list[Row]:
    return [
        {
            "step": verdict.step.value,
            "order": verdict.order,
            "check": verdict.check,
            "verdict": _format_verdict(verdict),
            "looked at": verdict.looked_at,
        }
        for verdict in explanation.verdicts
    ]


def _format_verdict(verdict: CheckVerdict) -> str:
    if verdict.error:
        return verdict.error
    if verdict.reason is not None:
        return verdict.reason.slug
    if verdict.deferred_until is not None:
        return f"deferred until {_format_time(verdict.deferred_until)}"
    return "-"


def _format_time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _explanation_to_json(explanation: Explanation) -> dict[str, object]:
    """Return an explanation without its verdicts; `as_of` is the time of the verdicts."""
    deferring = explanation.deferring
    until = None if deferring is None else deferring.deferred_until
    return {
        **explanation.origin.as_json(),
        "message": explanation.number,
        "customer": explanation.customer_id,
        "as_of": to_datetime(explanation.at).isoformat(),
        "read_at": explanation.origin.time.isoformat(timespec="seconds"),
        "reason": None if explanation.reason is None else explanation.reason.slug,
        "by": explanation.blocking_check,
        "detail": explanation.detail,
        "deferred_until": None if until is None else until.isoformat(),
        "deferred_by": None if deferring is None else deferring.check,
        "recorded": explanation.recorded_outcome,
    }


def _format_outcome(explanation: Explanation, label: str) -> str:
    outcome = "passes all checks"
    if explanation.reason is not None:
        blocked_by = f"blocked by check {explanation.blocking_check}"
        outcome = f"Not Sent: {explanation.reason.slug}, {blocked_by}"
    elif explanation.deferring is not None:
        outcome = f"{_format_verdict(explanation.deferring)} by check {explanation.deferring.check}"
    if explanation.detail is not None:
        outcome += f": {explanation.detail}"
    recorded_outcome = explanation.recorded_outcome or "not recorded yet"
    return (
        f"\ncustomer:  {explanation.customer_id}\n"
        f"{label + ':':<10} {outcome}\nrecorded:  {recorded_outcome}"
    )


SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting to change. May be repeated."),
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CHECK", help="A check to leave out. May be repeated."),
]
WithOption = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="MODULE:FUNCTION", help="A check to add. May be repeated."),
]


@exit_on_error
def diff_rules(
    context: typer.Context,
    campaign: CampaignOption,
    settings: SetOption = None,
    without: WithoutOption = None,
    extra: WithOption = None,
    run: RunOption = None,
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Show how other rules change a campaign's recorded verdicts.

    The installed checks judge each message, with the changes that the options name. The bounces,
    opt-outs and recent messages are those at the time of the step that judged it. The verdict is
    compared with the recorded one. Nothing is sent or written. The message limit is evaluated
    again at dispatch; other reasons of that step stay. Messages whose verdict can't be rebuilt are
    counted as not compared. The keys of --set are enabled, message_limit.count, message_limit.days,
    hard_bounce_limit, soft_bounce_limit, sender and requires. --with needs no installation; it also
    finds modules in the current folder.

    Examples: sendtrace checks diff --campaign sale --without ndnc ·
    sendtrace checks diff --campaign sale --set message_limit.count=2 --with acme.rules:quiet_hours
    """
    with open_database(database, context.obj) as record:
        with record.read() as connection:
            [recorded] = catalog.find_campaigns(connection, campaign, run)
            [origin] = read_origins(connection, [recorded])
        installed = Rules(campaign=recorded, checks=all_checks())
        rules = apply_rule_changes(
            installed,
            settings=settings or (),
            without=without or (),
            extra=extra or (),
        )
        for sentence in find_ineffective_settings(rules, settings or ()):
            print_note(sentence)
        diff = compare_rules(record, installed, rules)
    if format is RowFormat.TABLE:
        _print_heading("Changed verdicts", origin)
    about = () if format is RowFormat.TABLE else tuple(origin.as_json())
    columns = ("from", "to", "messages", "customers", *about)
    print_rows([row | origin.as_json() for row in _change_rows(diff)], columns, format)
    if format is RowFormat.TABLE:
        changed = sum(diff.changes.values())
        print(f"\n{changed:,} of {diff.compared_count:,} verdicts change")
    for note in _list_notes(diff, rules, settings or ()):
        print_note(note)


def _list_notes(diff: VerdictDiff, rules: Rules, settings: Sequence[str]) -> Iterator[str]:
    """Yield what limits a comparison of verdicts: errors, unknown values, missing messages."""
    yield from diff.check_errors.format_lines()
    if any(setting.startswith("soft_bounce_limit=") for setting in settings):
        yield (
            "soft bounces before the first campaign aren't counted where a later delivery reset"
            " them"
        )
    for check in rules.checks:
        if check.source is not None:
            yield f"check {check.name} used the data that its source has now"
    for cause, count in diff.not_compared.most_common():
        yield f"{pluralize(count, 'message')} not compared: {cause}"


def print_note(text: str) -> None:
    """Print a note to stderr, so that stdout holds only the result."""
    print(f"note: {escape_control_characters(text)}", file=sys.stderr)


def _change_rows(diff: VerdictDiff) -> list[dict[str, object]]:
    return [
        {
            "from": str(old),
            "to": str(new),
            "messages": count,
            "customers": ", ".join(diff.samples[old, new]),
        }
        for (old, new), count in diff.changes.most_common()
    ]
