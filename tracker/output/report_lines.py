"""The lines of the Live Monitoring Report: their labels, their order and what each means."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, tzinfo

from tracker.clock import to_datetime
from tracker.queries.report import Report
from tracker.status import Category, Engagement, Reason, Status
from tracker.text import pluralize

MEANINGS = {
    "audience": "The customers of the campaign; each gets one message.",
    "sent.total": "Accepted by the gateway; includes delivered, opened, clicked, bounced, marked as"
    " spam and marked unsubscribed.",
    "sent.delivered": "Reached the recipient, opened or not.",
    "sent.opened": "Recipients who opened the email, as of the last daily rollup (1 am).",
    "sent.clicked": "Recipients who opened and clicked a link, including those who unsubscribed"
    " after opening; as of the last daily rollup.",
    "sent.bounced.total": "Returned by the recipient's side, for good or for now.",
    "sent.bounced.hard": "Returned and permanently undeliverable: the number or domain doesn't"
    " exist, a typo, …",
    "sent.bounced.soft": "Temporarily undeliverable: mailbox full, server down, message too large,"
    " …",
    "sent.not_delivered": "The gateway gave up, without a bounce.",
    "sent.in_gateway": "Accepted by the gateway; the outcome isn't known yet.",
    "sent.spam": "Recipients who marked the email as spam.",
    "sent.unsubscribed": "Recipients who unsubscribed from marketing after they opened the"
    " message.",
    "not_sent.total": "Not sent to the customer, for exactly one reason.",
    "not_sent.internally_suppressed.total": "Stopped because the message may not be sent.",
    "not_sent.incomplete_or_invalid.total": "Stopped because required information is missing or"
    " invalid.",
    "not_sent.system_error.total": "Stopped because a step or a service failed after its retries.",
    "in_progress.total": "Processed but not yet accepted by the gateway.",
    "in_progress.queued": "Recorded; waits for the checks or is being checked.",
    "in_progress.about_to_be_sent": "Passed every check; waits for the gateway.",
    "scheduled": "Customers whose message hasn't been queued yet.",
} | {f"not_sent.{reason.category}.{reason.slug}": reason.meaning for reason in Reason}
"""The meaning of each line, by its path in the JSON of the report."""


@dataclass(frozen=True, kw_only=True)
class ReportLine:
    """A line of the report.

    Attributes:
        level: depth below its heading; 0 is the leftmost.
        path: where the count is in the JSON of the report, such as `sent.bounced.hard`.
        share: the count divided by the audience, for lines that show it.
        note: text behind the count.
    """

    level: int
    label: str
    path: str
    count: int
    share: float | None = None
    note: str = ""

    @property
    def meaning(self) -> str:
        """The meaning of the count, in one sentence."""
        return MEANINGS[self.path]


def report_lines(report: Report, zone: tzinfo = UTC) -> Iterator[ReportLine]:
    """Yield the lines of a report, without those that are hidden while they are zero.

    The time of the last rollup is shown in `zone`.
    """
    for line in all_report_lines(report, zone):
        if line.count or not is_hidden_at_zero(line):
            yield line


def is_hidden_at_zero(line: ReportLine) -> bool:
    """Return whether a line is shown only if it counts a message: a reason, or Scheduled."""
    return line.path == "scheduled" or (line.level == 2 and line.path.startswith("not_sent."))


def all_report_lines(report: Report, zone: tzinfo = UTC) -> Iterator[ReportLine]:
    """Yield the lines of a report with every reason; see `report_lines`."""
    yield ReportLine(level=0, label="Audience", path="audience", count=report.audience)
    yield from _sent_lines(report, zone)
    yield _heading("Not Sent", "not_sent.total", report.not_sent, report)
    for category in Category:
        yield from _category_lines(report, category)
    yield _heading("In Progress", "in_progress.total", report.in_progress, report)
    yield _status_line(report, 1, "Queued", "in_progress.queued", Status.QUEUED)
    yield _status_line(
        report, 1, "About to be Sent", "in_progress.about_to_be_sent", Status.ABOUT_TO_BE_SENT
    )
    yield _heading("Scheduled", "scheduled", report.scheduled, report)


def _sent_lines(report: Report, zone: tzinfo) -> Iterator[ReportLine]:
    yield _heading("Sent", "sent.total", report.sent, report)
    yield _status_line(report, 1, "Delivered", "sent.delivered", Status.DELIVERED)
    if report.campaign.tracks_engagement:
        note = _engagement_note(report, zone)
        yield _engagement_line(report, 2, "Opened", Engagement.OPENED, note)
        yield _engagement_line(report, 2, "Clicked", Engagement.CLICKED)
    yield ReportLine(level=1, label="Bounced", path="sent.bounced.total", count=report.bounced)
    yield _status_line(report, 2, "Hard", "sent.bounced.hard", Status.HARD_BOUNCED)
    yield _status_line(report, 2, "Soft", "sent.bounced.soft", Status.SOFT_BOUNCED)
    yield _status_line(report, 1, "Not delivered", "sent.not_delivered", Status.NOT_DELIVERED)
    yield ReportLine(
        level=1,
        label="In gateway",
        path="sent.in_gateway",
        count=report.count_messages(Status.IN_GATEWAY),
        note=_receipts_note(report),
    )
    yield _engagement_line(report, 1, "Marked as spam", Engagement.SPAM)
    yield _engagement_line(report, 1, "Marked unsubscribed", Engagement.UNSUBSCRIBED)


def _category_lines(report: Report, category: Category) -> Iterator[ReportLine]:
    """Yield the line of a category and those of its reasons, the most frequent first."""
    counts = report.count_by_reason(category)
    path = f"not_sent.{category}"
    total = sum(counts.values())
    yield ReportLine(level=1, label=category.heading, path=f"{path}.total", count=total)
    for reason in sorted(counts, key=lambda reason: (-counts[reason], reason)):
        yield ReportLine(
            level=2, label=reason.title, path=f"{path}.{reason.slug}", count=counts[reason]
        )


def _heading(label: str, path: str, count: int, report: Report) -> ReportLine:
    share = count / report.audience if report.audience else None
    return ReportLine(level=0, label=label, path=path, count=count, share=share)


def _status_line(report: Report, level: int, label: str, path: str, status: Status) -> ReportLine:
    return ReportLine(level=level, label=label, path=path, count=report.count_messages(status))


def _engagement_line(
    report: Report, level: int, label: str, kind: Engagement, note: str = ""
) -> ReportLine:
    count = report.engagement[kind]
    return ReportLine(level=level, label=label, path=f"sent.{kind.slug}", count=count, note=note)


def _receipts_note(report: Report) -> str:
    missing = report.missing_receipts
    return f"{pluralize(missing, 'receipt')} never came" if missing else ""


def _engagement_note(report: Report, zone: tzinfo) -> str:
    if report.engagement_as_of is None:
        return "before the first rollup"
    return f"as of {to_datetime(report.engagement_as_of).astimezone(zone):%-d %b %H:%M}"


def balance_line(report: Report) -> str:
    """Return the proof that the report adds up: both sums with their terms."""
    mark, word = ("✔", "balanced  ") if report.is_balanced else ("✘", "unbalanced")
    equals = "=" if report.is_balanced else "≟"
    audience = f"{report.sent:,} + {report.not_sent:,} + {report.in_progress:,}"
    if report.scheduled:
        audience += f" + {report.scheduled:,}"
    not_delivered = report.count_messages(Status.NOT_DELIVERED)
    in_gateway = report.count_messages(Status.IN_GATEWAY)
    sent = f"{report.delivered:,} + {report.bounced:,} + {not_delivered:,} + {in_gateway:,}"
    return (
        f"{mark} {word}    {report.audience:,} {equals} {audience}"
        f"   and   {report.sent:,} {equals} {sent}"
    )
