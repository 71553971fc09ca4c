"""The commands for those who write rules, as far as the record is all they need."""

import json
import sys
from typing import Annotated

import typer

from tracker.cli import DatabaseOption, RunOption, exit_on_error, open_database
from tracker.errors import UsageError
from tracker.output.tables import Row, RowFormat, print_rows
from tracker.record import catalog
from tracker.status import Reason
from tracker.text import escape_control_characters, pluralize
from workers.checks.base import all_checks
from workers.rules.changes import apply_rule_changes, find_ineffective_settings
from workers.rules.explain import Explanation, explain, find_message_number
from workers.rules.rejudge import Rules, VerdictDiff, compare_rules

FormatOption = Annotated[RowFormat, typer.Option("--format", help="How to print it.")]
CampaignOption = Annotated[
    str, typer.Option("--campaign", metavar="NAME", help="A recorded campaign.")
]


@exit_on_error
def list_checks(format: FormatOption = RowFormat.TABLE) -> None:
    """List the installed checks in the order in which they are asked.

    Example: sendtrace checks list --format csv
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
    campaign: CampaignOption,
    customer: Annotated[
        str | None, typer.Option("--customer", metavar="ID", help="A customer of its audience.")
    ] = None,
    message: Annotated[
        int | None, typer.Option("--message", metavar="NUMBER", help="Or the message's number.")
    ] = None,
    run: RunOption = None,
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Show what every check says of one message, and the values that it looked at.

    Example: sendtrace checks explain --campaign diwali-email --customer c17
    """
    if (customer is None) == (message is None):
        raise UsageError("expected either --customer ID or --message NUMBER")
    with open_database(database) as record:
        with record.read() as connection:
            [found] = catalog.find_campaigns(connection, campaign, run)
            if customer is not None:
                message = find_message_number(connection, found, customer)
        rules = Rules(campaign=found, checks=all_checks())
        explanation = explain(record, rules, message or 0, found.clock.now())
    rows = _verdict_rows(explanation)
    if format is RowFormat.JSON:
        print(
            json.dumps({**_explanation_to_json(explanation), "checks": rows}, indent=2, default=str)
        )
        return
    print_rows(rows, ("step", "order", "check", "verdict", "looked at"), format)
    if format is RowFormat.TABLE:
        print(_format_outcome(explanation))


def _verdict_rows(explanation: Explanation) -> list[Row]:
    return [
        {
            "step": each.step.value,
            "order": each.order,
            "check": each.check,
            "verdict": each.error or (each.reason.slug if each.reason else "-"),
            "looked at": each.looked_at,
        }
        for each in explanation.verdicts
    ]


def _explanation_to_json(explanation: Explanation) -> dict[str, object]:
    return {
        "campaign": explanation.campaign.name,
        "message": explanation.number,
        "customer": explanation.customer_id,
        "reason": None if explanation.reason is None else explanation.reason.slug,
        "by": explanation.blocking_check,
        "recorded": explanation.recorded_outcome,
    }


def _format_outcome(explanation: Explanation) -> str:
    reason = explanation.reason
    outcome = (
        "no check speaks against sending it"
        if reason is None
        else f"Not Sent: {reason.slug}, by the check {explanation.blocking_check}"
    )
    recorded_outcome = explanation.recorded_outcome or "not on record yet"
    return (
        f"\n{explanation.campaign.name} {explanation.number}, customer {explanation.customer_id}\n"
        f"judged now:  {outcome}\non record:   {recorded_outcome}"
    )


@exit_on_error
def diff_rules(
    campaign: CampaignOption,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Another setting. May be repeated."),
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="Leave a check out.")
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="MODULE:FUNCTION", help="Ask one more check."),
    ] = None,
    run: RunOption = None,
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Judge a recorded campaign again under changed rules: which verdicts would change?

    The customers are as they are now. What only the hand-over knows (credit, prepared messages) is
    left out. --set knows enabled, message_limit.count, message_limit.days, hard_bounce_limit,
    soft_bounce_limit, sender and requires. --with also finds modules in the current folder.

    Examples: sendtrace checks diff --campaign sale --without ndnc ·
    sendtrace checks diff --campaign sale --set message_limit.count=2 --with acme.rules:quiet_hours
    """
    with open_database(database) as record:
        with record.read() as connection:
            [found] = catalog.find_campaigns(connection, campaign, run)
        before = Rules(campaign=found, checks=all_checks())
        after = apply_rule_changes(
            before, settings=settings or (), without=without or (), extra=extra or ()
        )
        for each in find_ineffective_settings(after, settings or ()):
            print_note(each)
        difference = compare_rules(record, before, after)
    rows = _change_rows(difference)
    print_rows(rows, ("from", "to", "messages", "customers"), format)
    if format is RowFormat.TABLE:
        changed = sum(difference.changes.values())
        print(f"\n{changed:,} of {difference.judged:,} verdicts change")
    for each in difference.check_errors.format_lines():
        print_note(each)
    if difference.record_mismatches:
        print_note(
            f"{pluralize(difference.record_mismatches, 'verdict')} would not be as on record, even with"
            " nothing changed: customers or installed checks have changed since"
        )


def print_note(text: str) -> None:
    """Say something beside the result, which programs may read."""
    print(f"note: {escape_control_characters(text)}", file=sys.stderr)


def format_verdict(reason: Reason | None) -> str:
    """A verdict as tables and files have it."""
    return "passes" if reason is None else reason.slug


def _change_rows(difference: VerdictDiff) -> list[Row]:
    return [
        {
            "from": format_verdict(old),
            "to": format_verdict(new),
            "messages": count,
            "customers": ", ".join(difference.samples[old, new]),
        }
        for (old, new), count in difference.changes.most_common()
    ]
