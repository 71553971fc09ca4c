"""Commands for rule developers that need only the database: list, explain, diff."""

import json
import sys
from typing import Annotated

import typer

from tracker.cli import DatabaseOption, FormatOption, RunOption, exit_on_error, open_database
from tracker.errors import UsageError
from tracker.output.tables import Row, RowFormat, print_rows
from tracker.record import catalog
from tracker.status import Reason
from tracker.text import escape_control_characters, pluralize
from workers.checks.base import all_checks
from workers.rules.changes import apply_rule_changes, find_ineffective_settings
from workers.rules.explain import Explanation, build_explanation, find_message_number
from workers.rules.rejudge import Rules, VerdictDiff, compare_rules

CampaignOption = Annotated[
    str, typer.Option("--campaign", metavar="NAME", help="A recorded campaign.")
]


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
    customer: Annotated[
        str | None, typer.Option("--customer", metavar="ID", help="The customer's id.")
    ] = None,
    message: Annotated[
        int | None,
        typer.Option(
            "--message", metavar="NUMBER", help="The message number, instead of --customer."
        ),
    ] = None,
    run: RunOption = None,
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Show the verdict of every check on a message.

    The values that each check read are shown beside its verdict. The checks judge the customer as
    recorded now. The outcome on record is shown below the table.

    Examples: sendtrace checks explain --campaign diwali-email --customer c17 ·
    sendtrace checks explain --campaign diwali-email --message 4711 --format json
    """
    if (customer is None) == (message is None):
        raise UsageError("expected either --customer ID or --message NUMBER, and not both")
    with open_database(database, context.obj) as record:
        with record.read() as connection:
            [recorded] = catalog.find_campaigns(connection, campaign, run)
            if customer is not None:
                message = find_message_number(connection, recorded, customer)
        rules = Rules(campaign=recorded, checks=all_checks())
        explanation = build_explanation(record, rules, message or 0, recorded.clock.now())
    rows = _verdict_rows(explanation)
    if format is RowFormat.JSON:
        print(
            json.dumps({**_explanation_to_json(explanation), "checks": rows}, indent=2, default=str)
        )
        return
    print_rows(rows, ("step", "order", "check", "verdict", "looked at"), format)
    if format is RowFormat.TABLE:
        print(escape_control_characters(_format_outcome(explanation)))


def _verdict_rows(explanation: Explanation) -> list[Row]:
    return [
        {
            "step": verdict.step.value,
            "order": verdict.order,
            "check": verdict.check,
            "verdict": verdict.error or (verdict.reason.slug if verdict.reason else "-"),
            "looked at": verdict.looked_at,
        }
        for verdict in explanation.verdicts
    ]


def _explanation_to_json(explanation: Explanation) -> dict[str, object]:
    return {
        "campaign": explanation.campaign.name,
        "message": explanation.number,
        "customer": explanation.customer_id,
        "reason": None if explanation.reason is None else explanation.reason.slug,
        "by": explanation.blocking_check,
        "detail": explanation.detail,
        "recorded": explanation.recorded_outcome,
    }


def _format_outcome(explanation: Explanation) -> str:
    reason = explanation.reason
    outcome = (
        "passes all checks"
        if reason is None
        else f"Not Sent: {reason.slug}, blocked by check {explanation.blocking_check}"
    )
    if explanation.detail is not None:
        outcome += f": {explanation.detail}"
    recorded_outcome = explanation.recorded_outcome or "not recorded yet"
    return (
        f"\n{explanation.campaign.name} {explanation.number}, customer {explanation.customer_id}\n"
        f"now:       {outcome}\nrecorded:  {recorded_outcome}"
    )


@exit_on_error
def diff_rules(
    context: typer.Context,
    campaign: CampaignOption,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting to change. May be repeated."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="CHECK", help="A check to leave out. May be repeated."),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="MODULE:FUNCTION", help="A check to add. May be repeated."),
    ] = None,
    run: RunOption = None,
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
) -> None:
    """Show how other rules change a campaign's verdicts.

    A recorded campaign is judged twice, by the present and by the changed rules. Nothing is sent or
    written. The customers are judged as recorded now. Reasons that only the step dispatch gives,
    such as out_of_credit, are left out. The keys of --set are enabled, message_limit.count,
    message_limit.days, hard_bounce_limit, soft_bounce_limit, sender and requires. --with needs no
    installation; it also finds modules in the current folder.

    Examples: sendtrace checks diff --campaign sale --without ndnc ·
    sendtrace checks diff --campaign sale --set message_limit.count=2 --with acme.rules:quiet_hours
    """
    with open_database(database, context.obj) as record:
        with record.read() as connection:
            [recorded] = catalog.find_campaigns(connection, campaign, run)
        before = Rules(campaign=recorded, checks=all_checks())
        after = apply_rule_changes(
            before, settings=settings or (), without=without or (), extra=extra or ()
        )
        for sentence in find_ineffective_settings(after, settings or ()):
            print_note(sentence)
        diff = compare_rules(record, before, after)
    print_rows(_change_rows(diff), ("from", "to", "messages", "customers"), format)
    if format is RowFormat.TABLE:
        changed = sum(diff.changes.values())
        print(f"\n{changed:,} of {diff.judged_count:,} verdicts change")
    _print_diff_notes(diff)


def _print_diff_notes(diff: VerdictDiff) -> None:
    for line in diff.check_errors.format_lines():
        print_note(line)
    if diff.record_mismatches:
        print_note(
            f"{pluralize(diff.record_mismatches, 'verdict')} under the unchanged rules"
            f" {'differs' if diff.record_mismatches == 1 else 'differ'} from the record: customers"
            " or installed checks have changed since"
        )


def print_note(text: str) -> None:
    """Print a note to stderr, so that stdout holds only the result."""
    print(f"note: {escape_control_characters(text)}", file=sys.stderr)


def format_verdict(reason: Reason | None) -> str:
    """Return a verdict as tables and files show it: the slug of the reason, or "passes"."""
    return "passes" if reason is None else reason.slug


def _change_rows(diff: VerdictDiff) -> list[Row]:
    return [
        {
            "from": format_verdict(old),
            "to": format_verdict(new),
            "messages": count,
            "customers": ", ".join(diff.samples[old, new]),
        }
        for (old, new), count in diff.changes.most_common()
    ]
