"""The lines of the Live Monitoring Report: their labels, their order and what each means."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from enum import Enum, auto

from tracker.bounces import BounceCause
from tracker.clock import Instant, to_datetime
from tracker.queries.campaign_state import Origin
from tracker.queries.report import Report
from tracker.status import OPT_OUTS, Category, Channel, Engagement, Reason, Status
from tracker.text import pluralize

MEANINGS = {
    "audience": "The customers of the campaign; each has one message.",
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
    "sent.x": "Not delivered + In gateway; Sent = Delivered + Bounced + X.",
    "sent.not_delivered": "The gateway gave up, without a bounce.",
    "sent.in_gateway": "Accepted by the gateway; the outcome isn't known yet.",
    "sent.unconfirmed": "Handed over to the gateway, which didn't reply; not sent again. A part of"
    " In gateway.",
    "sent.spam": "Recipients who marked the email as spam.",
    "sent.unsubscribed": "Recipients who unsubscribed from marketing: from an email after they"
    " opened it, from SMS with STOP.",
    "not_sent.total": "Not sent to the customer, for exactly one reason: Internally Suppressed"
    " List, Incomplete/Invalid Information or System Error.",
    "not_sent.internally_suppressed.total": "Stopped because the message may not be sent.",
    "not_sent.incomplete_or_invalid.total": "Stopped because required information is missing or"
    " invalid.",
    "not_sent.system_error.total": "Stopped because a step or a service failed after its retries.",
    "in_progress.total": "Processed but not yet accepted by the gateway: Queued, About to be Sent.",
    "in_progress.queued": "Recorded; waits for the checks or is being checked.",
    "in_progress.deferred": "Queued messages that a rule deferred; they are judged again later."
    " A part of Queued.",
    "in_progress.about_to_be_sent": "Passed every check; waits for the gateway.",
    "scheduled": "Customers whose message hasn't been queued yet.",
} | {
    **{f"not_sent.{reason.category}.{reason.slug}": reason.meaning for reason in Reason},
    **{
        f"sent.bounced.causes.{kind}.{cause.slug}": cause.meaning
        for kind in ("hard", "soft")
        for cause in BounceCause
    },
}
"""The meaning of each line, by its path in the JSON of the report."""

ENGAGEMENT_LABELS = {
    Engagement.OPENED: "Opened",
    Engagement.CLICKED: "Clicked",
    Engagement.SPAM: "Marked as spam",
    Engagement.UNSUBSCRIBED: "Marked unsubscribed",
}
"""The labels of `REPORTED_ENGAGEMENTS`, in the same order."""

SHARES_MEANING = "Below Sent, percentages are of Sent; all others are of the audience."
NO_SHARE = "–"
"""The share of zero messages, or of a number that hasn't been counted yet."""

NO_ROLLUP = "no rollup yet (daily at 1 am)"
"""What the report says of opens and clicks that no rollup has counted."""

NO_ENGAGEMENT = "no engagement reported; an SMS has no opens"


class LineKind(Enum):
    """The kinds of lines that outputs treat differently."""

    COUNT = auto()
    """Messages of any kind."""
    PART = auto()
    """Messages that are deferred, unconfirmed or scheduled, which few campaigns have."""
    REASON = auto()
    """Messages that are Not Sent for one reason."""
    CAUSE = auto()
    """Messages that bounced for one cause."""


@dataclass(frozen=True, kw_only=True)
class ReportLine:
    """A line of the report.

    Attributes:
        level: depth below its heading; 0 is the leftmost.
        path: where the count is in the JSON of the report, such as `sent.bounced.hard`.
        whole: the messages of which the count is a share; None for the audience itself.
        kind: what the line counts.
        note: text behind the count.
    """

    level: int
    label: str
    path: str
    count: int
    whole: int | None
    kind: LineKind = LineKind.COUNT
    note: str = ""

    @property
    def is_hidden_at_zero(self) -> bool:
        """True if the line is shown only if it counts a message."""
        return self.kind is not LineKind.COUNT

    @property
    def share(self) -> str:
        """The share as text: a percentage, NO_SHARE of nothing, or empty without a whole."""
        if self.whole is None:
            return ""
        return f"{100 * self.count / self.whole:.1f} %" if self.whole else NO_SHARE

    @property
    def meaning(self) -> str:
        """The meaning of the count, in one sentence."""
        return MEANINGS[self.path]


def report_lines(report: Report, zone: tzinfo = UTC) -> Iterator[ReportLine]:
    """Yield the lines of a report, without those that are hidden while they are zero.

    The time of the last rollup is shown in `zone`.
    """
    for line in all_report_lines(report, zone):
        if line.count or not line.is_hidden_at_zero:
            yield line


def all_report_lines(report: Report, zone: tzinfo = UTC) -> Iterator[ReportLine]:
    """Yield the lines of a report with every reason; see `report_lines`."""
    audience = report.audience
    yield _line(None, 0, "Audience", "audience", audience)
    yield _line(audience, 0, "Sent", "sent.total", report.sent)
    yield from _sent_lines(report, zone)
    yield _line(audience, 0, "Not Sent", "not_sent.total", report.not_sent)
    for category in Category:
        yield from _category_lines(report, category)
    queued = report.count_messages(Status.QUEUED)
    ready = report.count_messages(Status.ABOUT_TO_BE_SENT)
    yield _line(audience, 0, "In Progress", "in_progress.total", report.in_progress)
    yield _line(audience, 1, "Queued", "in_progress.queued", queued)
    yield _line(audience, 2, "Deferred", "in_progress.deferred", report.deferred, LineKind.PART)
    yield _line(audience, 1, "About to be Sent", "in_progress.about_to_be_sent", ready)
    yield _line(audience, 0, "Scheduled", "scheduled", report.scheduled, LineKind.PART)


def _sent_lines(report: Report, zone: tzinfo) -> Iterator[ReportLine]:
    """Yield the parts of Sent."""
    sent = report.sent
    yield _line(sent, 1, "Delivered", "sent.delivered", report.delivered)
    yield from _engagement_lines(report, zone)
    yield _line(sent, 1, "Bounced", "sent.bounced.total", report.bounced)
    for kind, status in (("hard", Status.HARD_BOUNCED), ("soft", Status.SOFT_BOUNCED)):
        count = report.count_messages(status)
        yield _line(sent, 2, kind.capitalize(), f"sent.bounced.{kind}", count)
        yield from _cause_lines(report, f"sent.bounced.causes.{kind}", status)
    not_delivered = report.count_messages(Status.NOT_DELIVERED)
    in_gateway = report.count_messages(Status.IN_GATEWAY)
    yield _line(sent, 1, "X", "sent.x", report.undecided)
    yield _line(sent, 2, "Not delivered", "sent.not_delivered", not_delivered)
    yield replace(
        _line(sent, 2, "In gateway", "sent.in_gateway", in_gateway),
        note=describe_missing_receipts(report.missing_receipts),
    )
    yield _line(sent, 3, "Unconfirmed", "sent.unconfirmed", report.unconfirmed, LineKind.PART)


def has_engagement(report: Report) -> bool:
    """Return whether engagement by day is shown: for every email, and wherever there is any."""
    return report.campaign.channel is Channel.EMAIL or any(report.engagement.values())


def _engagement_lines(report: Report, zone: tzinfo) -> Iterator[ReportLine]:
    """Yield the parts of Delivered. Only a rollup counts opens and clicks; opt-outs are live.

    Of an SMS, only unsubscribes are shown while they are zero.
    """
    for kind, label in ENGAGEMENT_LABELS.items():
        is_expected = report.campaign.channel is Channel.EMAIL or kind is Engagement.UNSUBSCRIBED
        if not is_expected and not report.engagement[kind]:
            continue
        line = _line(report.sent, 2, label, f"sent.{kind.slug}", report.engagement[kind])
        if kind not in OPT_OUTS:
            is_counted = report.engagement_as_of is not None
            whole = line.whole if is_counted else 0
            line = replace(line, note=describe_rollup(report, zone), whole=whole)
        yield line


def describe_rollup(report: Report, zone: tzinfo) -> str:
    """Return when the engagement of a campaign was last rolled up, with the zone's name."""
    if not has_engagement(report):
        return NO_ENGAGEMENT
    if report.engagement_as_of is None:
        return NO_ROLLUP
    return f"as of {format_rollup_time(report.engagement_as_of, zone)}"


def _cause_lines(report: Report, path: str, status: Status) -> Iterator[ReportLine]:
    """Yield the lines of the causes that the gateway gave, the most frequent first."""
    counts = {cause: report.bounces[status, cause] for cause in BounceCause}
    for cause in sorted(counts, key=lambda cause: (-counts[cause], cause)):
        cause_path = f"{path}.{cause.slug}"
        yield _line(report.sent, 3, cause.title, cause_path, counts[cause], LineKind.CAUSE)


def _category_lines(report: Report, category: Category) -> Iterator[ReportLine]:
    """Yield the line of a category and those of its reasons, the most frequent first."""
    counts = report.count_by_reason(category)
    path = f"not_sent.{category}"
    whole = report.audience
    yield _line(whole, 1, category.heading, f"{path}.total", sum(counts.values()))
    for reason in sorted(counts, key=lambda reason: (-counts[reason], reason)):
        reason_path = f"{path}.{reason.slug}"
        yield _line(whole, 2, reason.title, reason_path, counts[reason], LineKind.REASON)


def _line(
    whole: int | None,
    level: int,
    label: str,
    path: str,
    count: int,
    kind: LineKind = LineKind.COUNT,
) -> ReportLine:
    return ReportLine(level=level, label=label, path=path, count=count, whole=whole, kind=kind)


def describe_missing_receipts(missing: int) -> str:
    """Return how many receipts never came during the run, in words; empty for none.

    They may still come: the inbound API takes receipts for a finished run.
    """
    return f"{pluralize(missing, 'receipt')} never came during the run" if missing else ""


def format_origin(origin: Origin, zone: tzinfo) -> str:
    """Return one line that identifies an output: campaign, channel, run, seed, state and time."""
    campaign = origin.campaign
    title = "" if campaign.title is None else f" · {campaign.title}"
    seed = "" if campaign.seed is None else f" · seed {campaign.seed}"
    return (
        f"{campaign.name}{title} · {campaign.channel} · run {campaign.run_id}{seed}"
        f" · {origin.state} · {format_origin_time(origin, zone)}"
    )


def describe_titles(report: Report) -> str:
    """Return the titles of a campaign's organization and audience in words; empty without any."""
    organization = report.campaign.organization
    titles = {
        f"from {organization.title}": organization.title,
        f"to {report.audience_title}": report.audience_title,
    }
    return " ".join(text for text, title in titles.items() if title is not None)


def format_origin_time(origin: Origin, zone: tzinfo) -> str:
    """Return the time of an output in a zone, with the zone's name."""
    return f"{origin.time.astimezone(zone):%-d %b %Y %H:%M:%S %Z}"


def format_rollup_time(as_of: Instant, zone: tzinfo) -> str:
    """Return the time of a rollup in a zone, with the zone's name."""
    return f"{to_datetime(as_of).astimezone(zone):%-d %b %Y %H:%M %Z}"


def balance_line(report: Report) -> str:
    """Return the proof that the report adds up: both sums with their terms."""
    mark, word = ("✔", "balanced  ") if report.is_balanced else ("✘", "unbalanced")
    equals = "=" if report.is_balanced else "≟"
    audience = f"{report.sent:,} + {report.not_sent:,} + {report.in_progress:,}"
    if report.scheduled:
        audience += f" + {report.scheduled:,}"
    sent = f"{report.delivered:,} + {report.bounced:,} + {report.undecided:,}"
    return (
        f"{mark} {word}    {report.audience:,} {equals} {audience}"
        f"   and   {report.sent:,} {equals} {sent}"
    )
