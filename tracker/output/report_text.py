"""Reports and stories as people read them: on a terminal, and as a table for spreadsheets."""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, tzinfo
from typing import Any

from tracker.audit.invariants import InvariantResult
from tracker.clock import to_datetime
from tracker.output.report_lines import ReportLine, balance_line, report_lines
from tracker.queries.report import Report
from tracker.queries.timeline import MessageTimeline, TimelineEvent
from tracker.record.rollup import CampaignRollup

LABEL_WIDTH = 34
COUNT_WIDTH = 12


def as_text(report: Report, *, heading: str = "Live Monitoring Report", zone: tzinfo = UTC) -> str:
    """The whole report of a campaign, several lines, without a line end after the last.

    Days and hours are those of ``zone``.
    """
    campaign = report.campaign
    seed = "" if campaign.seed is None else f" · seed {campaign.seed}"
    state = "" if report.finished else " · not finished"
    lines = [
        f"{heading}   {campaign.name} · {campaign.channel} · run {campaign.run_id}{seed}{state}",
        "",
        *map(_format_line, report_lines(report, zone)),
        "",
        balance_line(report),
    ]
    return "\n".join(lines)


def _format_line(line: ReportLine) -> str:
    text = f"{'  ' * line.level + line.label:<{LABEL_WIDTH}}{line.count:>{COUNT_WIDTH},}"
    if line.share is not None:
        text += f"{100 * line.share:8.1f} %"
    return text + (f"{'':13}{line.note}" if line.note else "")


def format_reports_csv(reports: Sequence[Report]) -> str:
    """One row a campaign; the columns are the paths of the JSON report."""
    rows = [dict(_flatten(report.as_json())) for report in reports]
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=[*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flatten(value: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _flatten(inner, f"{prefix}{key}.")
        else:
            yield prefix + key, inner


def format_timeline(story: MessageTimeline) -> str:
    """What happened to one message; several lines, without a line end after the last."""
    batch = "-" if story.batch is None else story.batch
    lines = [
        f"{story.campaign.name} {story.number} · customer {story.customer_id}"
        f" · batch {batch} · run {story.campaign.run_id}",
        "",
        f"{'time (UTC)':<28}{'status':<18}{'attempt':>7}  {'step':<10}{'worker':<22}task",
    ]
    for event in story.events:
        lines.append(_format_event(event))
        if event.reason is not None:
            lines.append(f"{'':<28}{event.reason.slug}: {event.reason.meaning}")
        if event.detail is not None:
            lines.append(f"{'':<28}the gateway said: {event.detail}")
    if story.broke is not None:
        lines.append(
            f"{'':<28}it broke {story.broke.step or 'a step'} every time: {story.broke.error}"
        )
    return "\n".join(lines)


def _format_event(event: TimelineEvent) -> str:
    at = "" if event.at is None else f"{event.at:%Y-%m-%d %H:%M:%S.%f}"
    attempt = str(event.attempt or "")
    return (
        f"{at:<28}{event.status.slug:<18}{attempt:>7}  {event.step or '':<10}"
        f"{event.worker or '':<22}{event.task_id or '-'}"
    )


def format_rollup(rollup: CampaignRollup, zone: tzinfo) -> str:
    """Return one line that says what a rollup changed for a campaign."""
    changes = ", ".join(
        f"{count:+,} {kind.slug}" for kind, count in sorted(rollup.changes.items()) if count
    )
    return (
        f"{rollup.campaign.name} · run {rollup.campaign.run_id}: {changes or 'nothing new'}"
        f"   as of {to_datetime(rollup.as_of).astimezone(zone):%-d %b %H:%M}"
    )


def format_finding(finding: InvariantResult) -> list[str]:
    """A finding as a person reads it: one line, and one for each wrong row that is named."""
    if finding.holds:
        return [f"✔ {finding.invariant.name:<22}{finding.invariant.claim}"]
    lines = [f"✘ {finding.invariant.name:<22}{finding.invariant.claim}"]
    lines.append(f"    {finding.wrong:,} wrong; the first:")
    lines += [f"    {_format_example(example)}" for example in finding.examples]
    return lines


def _format_example(example: dict[str, Any]) -> str:
    return " · ".join(f"{key} {value}" for key, value in example.items() if value != {})
