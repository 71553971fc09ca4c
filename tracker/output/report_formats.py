"""Reports, and their engagement by day, as text, JSON or CSV."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import tzinfo

from tracker.output.report_lines import ENGAGEMENT_LABELS, describe_rollup, has_engagement
from tracker.output.report_text import format_heading, format_report
from tracker.output.tables import RowFormat, format_rows, format_table
from tracker.queries.report import REPORTED_ENGAGEMENTS, Report
from tracker.text import escape_control_characters

DAY_COLUMNS = ("Day", *ENGAGEMENT_LABELS.values())
"""Header of the table of engagement by day."""


def render_reports(
    reports: Sequence[Report], format: RowFormat, zone: tzinfo, *, explain: bool = False
) -> str:
    """Return reports in a format, without a line end after the last line.

    Args:
        zone: the time zone of times in the text.
        explain: whether the text has the meaning of each line.
    """
    match format:
        case RowFormat.JSON:
            return json.dumps([report.as_json() for report in reports], indent=2)
        case RowFormat.CSV:
            rows = [dict(_flatten(report.as_json())) for report in reports]
            return escape_control_characters(format_rows(rows, [*rows[0]], format))
        case RowFormat.TABLE:
            texts = (format_report(report, zone=zone, explain=explain) for report in reports)
            return escape_control_characters("\n\n\n".join(texts))


def render_days(reports: Sequence[Report], format: RowFormat, zone: tzinfo) -> str:
    """Return the engagement by day of some campaigns in a format.

    As CSV, a campaign without engagement has one row, with no day.
    """
    match format:
        case RowFormat.JSON:
            return json.dumps([report.days_as_json() for report in reports], indent=2)
        case RowFormat.CSV:
            rows = [row for report in reports for row in _day_records(report)]
            return escape_control_characters(format_rows(rows, [*rows[0]], format))
        case RowFormat.TABLE:
            texts = ("\n".join(_format_days(report, zone)) for report in reports)
            return escape_control_characters("\n\n\n".join(texts))


def day_rows(report: Report) -> list[tuple[str, ...]]:
    """Return a row of text for each day, and a last one with the totals."""
    days = report.engagement_days
    rows = [
        (day, *(f"{counts[kind]:,}" for kind in REPORTED_ENGAGEMENTS))
        for day, counts in days.items()
    ]
    totals = (sum(counts[kind] for counts in days.values()) for kind in REPORTED_ENGAGEMENTS)
    return [*rows, ("Total", *(f"{total:,}" for total in totals))]


def _format_days(report: Report, zone: tzinfo) -> Iterator[str]:
    yield format_heading("Engagement by day", report.origin, zone)
    yield describe_rollup(report, zone)
    if not has_engagement(report):
        return
    yield ""
    yield format_table(DAY_COLUMNS, day_rows(report), right_aligned=range(1, len(DAY_COLUMNS)))


def _day_records(report: Report) -> Iterator[Mapping[str, object]]:
    campaign = report.days_as_json()
    no_day = dict.fromkeys(("day", *(kind.slug for kind in REPORTED_ENGAGEMENTS)), "")
    for day in campaign.pop("days") or [no_day]:
        yield {**campaign, **day}


def _flatten(value: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from _flatten(inner, f"{prefix}{key}.")
        else:
            yield prefix + key, inner
