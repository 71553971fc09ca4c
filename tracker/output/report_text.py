"""Reports, timelines, rollups and invariant results as plain text."""

from collections.abc import Iterator
from datetime import UTC, tzinfo
from textwrap import wrap

from tracker.audit.invariants import InvariantResult
from tracker.output.report_lines import (
    SHARES_MEANING,
    ReportLine,
    balance_line,
    describe_titles,
    format_origin,
    format_rollup_time,
    report_lines,
)
from tracker.queries.campaign_state import Origin
from tracker.queries.report import Report
from tracker.queries.timeline import (
    MessageTimeline,
    RecipientAction,
    RefusedReceipt,
    TimelineEntry,
    TimelineEvent,
)
from tracker.record.rollup import CampaignRollup

LABEL_WIDTH = 34
COUNT_WIDTH = 12
SHARE_WIDTH = 10
EXPLANATION_WIDTH = 79
TIME_WIDTH = 28


def format_report(report: Report, *, zone: tzinfo = UTC, explain: bool = False) -> str:
    """Return the report of a campaign as several lines, without a line end after the last.

    Args:
        zone: the time zone of its time, and of that of the last rollup.
        explain: whether the meaning of each line is printed below it.
    """
    lines = [format_heading("Live Monitoring Report", report.origin, zone)]
    titles = describe_titles(report)
    lines += [titles, ""] if titles else [""]
    for line in report_lines(report, zone):
        lines.append(_format_line(line))
        if explain:
            indent = "  " * (line.level + 2)
            lines += wrap(
                line.meaning, EXPLANATION_WIDTH, initial_indent=indent, subsequent_indent=indent
            )
    lines += ["", balance_line(report)]
    if explain:
        lines += ["", SHARES_MEANING]
    return "\n".join(lines)


def format_heading(title: str, origin: Origin, zone: tzinfo) -> str:
    """Return the first line of an output: its title, and the campaign, run, state and time."""
    return f"{title}   {format_origin(origin, zone)}"


def _format_line(line: ReportLine) -> str:
    text = f"{'  ' * line.level + line.label:<{LABEL_WIDTH}}{line.count:>{COUNT_WIDTH},}"
    return f"{text}{line.share:>{SHARE_WIDTH}}   {line.note}".rstrip()


def format_timeline(timeline: MessageTimeline, zone: tzinfo = UTC) -> str:
    """Return the timeline of a message as several lines, without a line end after the last.

    The time of the heading is shown in `zone`, those of the entries in UTC.
    """
    batch = "-" if timeline.batch is None else timeline.batch
    lines = [
        format_heading(f"Message {timeline.number}", timeline.origin, zone),
        f"customer {timeline.customer_id} · batch {batch}",
        "",
        f"{'time (UTC)':<{TIME_WIDTH}}{'status':<18}{'attempt':>7}  {'step':<10}{'worker':<22}task",
    ]
    for entry in timeline.entries():
        lines += _format_entry(entry)
    if timeline.deferral is not None:
        until = timeline.deferred_until
        time = "an unreadable time" if until is None else f"{until:%Y-%m-%d %H:%M:%S}"
        lines.append(
            f"{'':<{TIME_WIDTH}}deferred until {time} by check {timeline.deferral.check_name}"
        )
    if timeline.is_receipt_missing:
        lines.append(f"{'':<{TIME_WIDTH}}the run finished without the gateway's receipt")
    if timeline.failure is not None:
        step = timeline.failure.step or "a step"
        lines.append(f"{'':<{TIME_WIDTH}}poison message: failed every try of {step}")
    return "\n".join(lines)


def _format_entry(entry: TimelineEntry) -> Iterator[str]:
    """Yield the line of an entry, and lines that explain it."""
    at = "" if entry.at is None else f"{entry.at:%Y-%m-%d %H:%M:%S.%f}"
    match entry:
        case RecipientAction():
            yield f"{at:<{TIME_WIDTH}}{entry.kind.slug:<18}{'':>7}  by the recipient"
        case RefusedReceipt():
            status = "unknown status" if entry.status is None else entry.status.slug
            refusal = f"receipt refused: {entry.verdict}"
            yield f"{at:<{TIME_WIDTH}}{status:<18}{entry.attempt:>7}  {refusal}"
        case TimelineEvent():
            attempt = str(entry.attempt or "")
            yield (
                f"{at:<{TIME_WIDTH}}{entry.status.slug:<18}{attempt:>7}  {entry.step or '':<10}"
                f"{entry.worker or '':<22}{entry.task_id or '-'}"
            )
            if entry.reason is not None:
                yield f"{'':<{TIME_WIDTH}}{entry.reason.slug}: {entry.reason.meaning}"
            if entry.note is not None:
                yield f"{'':<{TIME_WIDTH}}{entry.note}"


def format_rollup(rollup: CampaignRollup, origin: Origin, zone: tzinfo) -> str:
    """Return one line with what a rollup changed for a campaign, as of the time of its run."""
    changes = ", ".join(
        f"{count:+,} {kind.slug}" for kind, count in sorted(rollup.changes.items()) if count
    )
    return (
        f"{format_origin(origin, zone)}: {changes or 'nothing new'}"
        f"   as of {format_rollup_time(rollup.as_of, zone)}"
    )


def format_invariant_result(result: InvariantResult) -> list[str]:
    """Return the line of an invariant, and lines with the first wrong rows or what isn't known."""
    mark = "✘" if not result.is_satisfied else "✔" if result.unknown is None else "?"
    lines = [f"{mark} {result.invariant.name:<22}{result.invariant.claim}"]
    if not result.is_satisfied:
        lines.append(f"    {result.violation_count:,} wrong; the first:")
        for example in result.examples:
            values = (f"{key} {value}" for key, value in example.items() if value != {})
            lines.append(f"    {' · '.join(values)}")
    elif result.unknown is not None:
        lines.append(f"    not known: {result.unknown}")
    return lines
