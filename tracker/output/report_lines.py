"""The lines of the Live Monitoring Report: their wording, their order, and what each means."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, tzinfo

from tracker.clock import to_datetime
from tracker.queries.report import Report
from tracker.status import Category, Engagement, Reason, Status


@dataclass(frozen=True, kw_only=True)
class ReportLine:
    """A line of the report: how deep below its heading, and its ``share`` of the audience or a
    ``note``, if it has one.

    ``path`` is where the count stands in the JSON of the report, as in ``sent.bounced.hard``.
    """

    level: int
    label: str
    path: str
    meaning: str
    count: int
    share: float | None = None
    note: str = ""


def report_lines(report: Report, zone: tzinfo = UTC) -> Iterator[ReportLine]:
    """All lines of a report, from its audience to what is in progress; reasons by their counts,
    without those that are nobody's."""
    for line in all_report_lines(report, zone):
        if line.count or not is_reason(line):
            yield line


def is_reason(line: ReportLine) -> bool:
    return line.level == 2 and line.path.startswith("not_sent.")


def all_report_lines(report: Report, zone: tzinfo = UTC) -> Iterator[ReportLine]:
    """The same with every reason there is."""

    def part(label: str, path: str, count: int, meaning: str) -> ReportLine:
        share = count / report.audience if report.audience else None
        return ReportLine(
            level=0, label=label, path=path, meaning=meaning, count=count, share=share
        )

    def engaged(
        level: int, label: str, kind: Engagement, meaning: str, note: str = ""
    ) -> ReportLine:
        count, path = report.engagement[kind], f"sent.{kind.slug}"
        return ReportLine(
            level=level, label=label, path=path, meaning=meaning, count=count, note=note
        )

    def having(level: int, label: str, path: str, status: Status) -> ReportLine:
        count, meaning = report.having(status), status.meaning
        return ReportLine(level=level, label=label, path=path, meaning=meaning, count=count)

    yield ReportLine(
        level=0,
        label="Audience",
        path="audience",
        meaning="The customers of the campaign: one message each.",
        count=report.audience,
    )
    yield part("Sent", "sent.total", report.sent, "Accepted by the gateway, whatever came after.")
    yield having(1, "Delivered", "sent.delivered", Status.DELIVERED)
    if report.campaign.tracks_engagement:
        note = _engagement_note(report, zone)
        yield engaged(2, "Opened", Engagement.OPENED, "Recipients who opened it.", note)
        yield engaged(2, "Clicked", Engagement.CLICKED, "Recipients who clicked a link in it.")
    yield ReportLine(
        level=1,
        label="Bounced",
        path="sent.bounced.total",
        meaning="Refused by the recipient's side.",
        count=report.bounced,
    )
    yield having(2, "Hard", "sent.bounced.hard", Status.HARD_BOUNCED)
    yield having(2, "Soft", "sent.bounced.soft", Status.SOFT_BOUNCED)
    yield having(1, "Not delivered", "sent.not_delivered", Status.NOT_DELIVERED)
    yield having(1, "In gateway", "sent.in_gateway", Status.IN_GATEWAY)
    yield engaged(1, "Marked as spam", Engagement.SPAM, "Recipients who want no more.")
    yield engaged(1, "Marked unsubscribed", Engagement.UNSUBSCRIBED, "Recipients who left.")
    yield part("Not Sent", "not_sent.total", report.not_sent, Status.NOT_SENT.meaning)
    for category in Category:
        yield from _category_lines(report, category)
    yield part("In Progress", "in_progress.total", report.in_progress, "On the way to the gateway.")
    yield having(1, "Queued", "in_progress.queued", Status.QUEUED)
    yield having(1, "About to be Sent", "in_progress.about_to_be_sent", Status.ABOUT_TO_BE_SENT)


_CATEGORY_MEANINGS = {
    Category.INTERNALLY_SUPPRESSED: "May not be sent.",
    Category.INCOMPLETE_OR_INVALID: "Lacks something that it needs.",
    Category.SYSTEM_ERROR: "Something on our side failed, also after retries.",
}


def _category_lines(report: Report, category: Category) -> Iterator[ReportLine]:
    counts = report.count_by_reason(category)
    path = f"not_sent.{category}"
    yield ReportLine(
        level=1,
        label=category.heading,
        path=f"{path}.total",
        meaning=_CATEGORY_MEANINGS[category],
        count=sum(counts.values()),
    )

    def most_first(item: tuple[Reason, int]) -> tuple[int, Reason]:
        return -item[1], item[0]

    for reason, count in sorted(counts.items(), key=most_first):
        yield ReportLine(
            level=2,
            label=reason.title,
            path=f"{path}.{reason.slug}",
            meaning=reason.meaning,
            count=count,
        )


def _engagement_note(report: Report, zone: tzinfo) -> str:
    if report.engagement_as_of is None:
        return "before the first rollup"
    return f"as of {to_datetime(report.engagement_as_of).astimezone(zone):%-d %b %H:%M}"


def balance_line(report: Report) -> str:
    """The proof: both sums, with their terms."""
    mark, word = ("✔", "balanced  ") if report.balanced else ("✘", "unbalanced")
    audience_is = f"{report.sent:,} + {report.not_sent:,} + {report.in_progress:,}"
    not_delivered = report.having(Status.NOT_DELIVERED)
    in_gateway = report.having(Status.IN_GATEWAY)
    sent_is = f"{report.delivered:,} + {report.bounced:,} + {not_delivered:,} + {in_gateway:,}"
    equal = "=" if report.balanced else "≟"
    return (
        f"{mark} {word}    {report.audience:,} {equal} {audience_is}"
        f"   and   {report.sent:,} {equal} {sent_is}"
    )
