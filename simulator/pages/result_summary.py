"""The summary of a result for a reader who doesn't run it: what was sent, what wasn't, and why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo

from tracker.output.report_lines import (
    LineKind,
    ReportLine,
    all_report_lines,
    describe_missing_receipts,
)
from tracker.queries.report import Report
from tracker.text import pluralize

MAX_REASONS = 5
"""Reasons that the summary names; the report has all."""

ALWAYS_SHOWN = frozenset(
    {
        "audience",
        "sent.total",
        "sent.delivered",
        "sent.opened",
        "sent.clicked",
        "sent.bounced.total",
        "not_sent.total",
    }
)
"""Lines that are shown also without messages."""

DETAILS = frozenset(
    {
        "sent.bounced.hard",
        "sent.bounced.soft",
        "in_progress.queued",
        "in_progress.about_to_be_sent",
    }
)
"""Lines that split another one, and are left out."""


@dataclass(frozen=True)
class ResultSummary:
    """The reports of all campaigns in a few lines.

    Attributes:
        text: what was sent, what wasn't, and the most frequent reasons.
        lines: with their counts summed up.
    """

    text: str
    lines: tuple[ReportLine, ...]


def summarize_reports(reports: Sequence[Report], zone: tzinfo) -> ResultSummary:
    """Sum up the reports of a run's campaigns."""
    totals = _sum_lines(reports, zone)
    missing = describe_missing_receipts(sum(report.missing_receipts for report in reports))
    totals["sent.in_gateway"] = replace(totals["sent.in_gateway"], note=missing)
    lines = tuple(
        line
        for line in totals.values()
        if line.path in ALWAYS_SHOWN or (line.count and not _is_detail(line))
    )
    return ResultSummary(". ".join(_describe(totals)), lines)


def _is_detail(line: ReportLine) -> bool:
    """Return whether a line is a part of another one, such as a reason or a cause."""
    return line.path in DETAILS or line.kind in (LineKind.REASON, LineKind.CAUSE)


def _sum_lines(reports: Sequence[Report], zone: tzinfo) -> dict[str, ReportLine]:
    """Return the lines of all reports by path, with the sum of their counts."""
    sums: dict[str, ReportLine] = {}
    for report in reports:
        for line in all_report_lines(report, zone):
            other = sums.get(line.path)
            sums[line.path] = line if other is None else _add(other, line)
    return sums


def _add(one: ReportLine, other: ReportLine) -> ReportLine:
    return replace(
        one,
        count=one.count + other.count,
        whole=None if one.whole is None or other.whole is None else one.whole + other.whole,
        note=one.note if one.note == other.note else "",
    )


def _describe_sent(totals: Mapping[str, ReportLine]) -> str:
    in_gateway, not_delivered = totals["sent.in_gateway"], totals["sent.not_delivered"]
    parts = [
        f"{totals['sent.delivered'].count:,} were delivered",
        f"{totals['sent.bounced.total'].count:,} bounced",
    ]
    if not_delivered.count:
        parts.append(f"{not_delivered.count:,} were not delivered")
    if in_gateway.count:
        note = f" ({in_gateway.note})" if in_gateway.note else ""
        parts.append(f"{in_gateway.count:,} remained in the gateway{note}")
    *first, last = parts
    return f"{', '.join(first)} and {last}"


def _describe(totals: Mapping[str, ReportLine]) -> Iterator[str]:
    """Yield sentences without their full stops."""
    sent, not_sent = totals["sent.total"], totals["not_sent.total"]
    yield (
        f"Sent: {sent.count:,} of {totals['audience'].count:,} messages"
        f" ({sent.share}), of which {_describe_sent(totals)}"
    )
    reasons = sorted(
        (line for line in totals.values() if line.kind is LineKind.REASON and line.count),
        key=lambda line: -line.count,
    )
    causes = [f"{line.label} ({line.count:,})" for line in reasons[:MAX_REASONS]]
    if len(reasons) > MAX_REASONS:
        causes.append(pluralize(len(reasons) - MAX_REASONS, "more reason"))
    named = f": {', '.join(causes)}" if causes else ""
    yield f"Not Sent: {not_sent.count:,} ({not_sent.share}){named}"
    for path in ("in_progress.total", "scheduled"):
        if totals[path].count:
            yield f"{totals[path].label}: {totals[path].count:,}"
