"""The lines of the report: which are shown, their shares, and the time of the last rollup."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from docs.generate import report_page
from tests.support.factory import SPRING, in_gateway, in_status, make_report, not_sent_for
from tracker.clock import from_datetime
from tracker.output.report_lines import (
    ENGAGEMENT_LABELS,
    MEANINGS,
    SHARES_MEANING,
    ReportLine,
    all_report_lines,
    report_lines,
)
from tracker.output.report_text import format_report
from tracker.queries.report import REPORTED_ENGAGEMENTS, Report
from tracker.status import Channel, Engagement, Reason, Status

AS_OF = from_datetime(datetime(2026, 11, 30, 19, 30, tzinfo=UTC))
KOLKATA = ZoneInfo("Asia/Kolkata")
SMS = replace(SPRING, channel=Channel.SMS)

COUNTS = {
    in_status(Status.DELIVERED): 60,
    in_status(Status.HARD_BOUNCED): 5,
    in_status(Status.NOT_DELIVERED): 10,
    in_gateway(): 5,
    not_sent_for(Reason.UNSUBSCRIBED): 20,
}
ENGAGEMENT = Counter({Engagement.OPENED: 40, Engagement.CLICKED: 8, Engagement.SPAM: 1})


def lines_by_path(report: Report) -> dict[str, ReportLine]:
    return {line.path: line for line in report_lines(report, KOLKATA)}


def test_engagement_is_listed_under_delivered_for_every_email() -> None:
    """Also without `[engagement]`, and over SMTP, where the JSON counted what no line showed."""
    report = make_report(COUNTS, campaign=replace(SPRING, gateway_kind="smtp"))
    lines = list(report_lines(report))
    place = next(n for n, line in enumerate(lines) if line.label == "Delivered")
    below = [(line.label, line.level) for line in lines[place + 1 : place + 5]]
    assert below == [(label, 2) for label in ENGAGEMENT_LABELS.values()]
    assert lines[place].level == 1
    assert lines[place + 5].label == "Bounced"


def test_every_reported_kind_of_engagement_has_its_label_in_order() -> None:
    """The table of days has its columns from the labels and its numbers from the kinds."""
    assert tuple(ENGAGEMENT_LABELS) == REPORTED_ENGAGEMENTS
    assert set(Engagement) - {*REPORTED_ENGAGEMENTS} == {Engagement.MACHINE_OPENED}


def test_an_sms_has_a_line_of_unsubscribes_and_those_of_what_was_reported() -> None:
    def shown(report: Report) -> set[str]:
        return {line.label for line in report_lines(report)} & {*ENGAGEMENT_LABELS.values()}

    silent = make_report(COUNTS, campaign=SMS)
    assert shown(silent) == {"Marked unsubscribed"}
    reported = replace(silent, engagement=Counter({Engagement.CLICKED: 1}))
    assert shown(reported) == {"Clicked", "Marked unsubscribed"}


def test_opened_and_clicked_have_the_time_of_the_rollup_with_its_zone() -> None:
    rolled_up = replace(make_report(COUNTS), engagement=ENGAGEMENT, engagement_as_of=AS_OF)
    lines = lines_by_path(rolled_up)
    for path, share in (("sent.opened", "50.0 %"), ("sent.clicked", "10.0 %")):
        assert (lines[path].note, lines[path].share) == ("as of 1 Dec 2026 01:00 IST", share)
    assert lines["sent.spam"].note == lines["sent.unsubscribed"].note == ""


def test_before_the_first_rollup_opened_and_clicked_claim_nothing() -> None:
    lines = lines_by_path(make_report(COUNTS))
    for path in ("sent.opened", "sent.clicked"):
        assert lines[path].share == "–"
        assert lines[path].note == "no rollup yet (daily at 1 am)"
    assert lines["sent.spam"].share == "0.0 %"


@pytest.mark.parametrize(
    ("path", "share"),
    [
        ("audience", ""),
        ("sent.total", "80.0 %"),
        ("sent.delivered", "75.0 %"),
        ("sent.bounced.hard", "6.2 %"),
        ("sent.x", "18.8 %"),
        ("sent.not_delivered", "12.5 %"),
        ("not_sent.total", "20.0 %"),
        ("not_sent.internally_suppressed.total", "20.0 %"),
        ("not_sent.internally_suppressed.unsubscribed", "20.0 %"),
        ("in_progress.queued", "0.0 %"),
    ],
)
def test_shares_are_of_sent_below_sent_and_else_of_the_audience(path: str, share: str) -> None:
    assert lines_by_path(make_report(COUNTS))[path].share == share


def test_a_share_of_nothing_is_no_number() -> None:
    unsent = lines_by_path(make_report({not_sent_for(Reason.NDNC): 2}))
    assert unsent["sent.total"].share == "0.0 %"
    assert unsent["sent.delivered"].share == unsent["sent.x"].share == "–"
    empty = make_report({})
    assert {line.share for line in all_report_lines(empty) if line.path != "audience"} == {"–"}


def test_x_is_not_delivered_and_in_gateway() -> None:
    report = make_report(COUNTS)
    lines = lines_by_path(report)
    assert lines["sent.x"].count == report.as_json()["sent"]["x"] == 15
    assert [lines[path].level for path in ("sent.x", "sent.not_delivered", "sent.in_gateway")] == [
        *(1, 2, 2)
    ]


def test_the_meanings_are_below_the_lines_and_in_the_docs() -> None:
    report = make_report(COUNTS)
    explained = " ".join(format_report(report, explain=True).split())
    page = report_page()
    for line in report_lines(report):
        assert line.meaning in explained
    for meaning in (*MEANINGS.values(), SHARES_MEANING):
        assert meaning in page
    assert SHARES_MEANING in explained
    assert SHARES_MEANING not in format_report(report)
