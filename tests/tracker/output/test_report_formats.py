"""Engagement by day, as a table, JSON and CSV."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.support.engagement import CLICKED, OPENED, SPAM, UNSUBSCRIBED, deliver_all, record_events
from tests.support.factory import SPRING, Plan, make_batch, make_report
from tracker.clock import from_datetime
from tracker.output.report_formats import render_days
from tracker.output.tables import RowFormat
from tracker.queries.report import Report, make_reports
from tracker.record.engagement import EngagementEvent
from tracker.record.rollup import roll_up_engagement
from tracker.status import Channel, Engagement
from tracker.store.database import Database


def at(day: int, number: int, kind: Engagement) -> EngagementEvent:
    return EngagementEvent(number, kind, from_datetime(datetime(2026, 11, day, 12, tzinfo=UTC)))


@pytest.fixture
def reports(database: Database) -> list[Report]:
    """Return the reports of a campaign with engagement on two days, and of one without any."""
    batch = make_batch(database)
    deliver_all(database, batch)
    record_events(
        database,
        batch,
        [
            *(at(24, number, OPENED) for number in range(5)),
            at(25, 4, CLICKED),
            at(25, 5, UNSUBSCRIBED),
            at(25, 6, SPAM),
            at(26, 7, Engagement.MACHINE_OPENED),
        ],
    )
    roll_up_engagement(database, UTC)
    silent = make_batch(database, Plan(name="silent"))
    with database.read() as connection:
        return make_reports(connection, [batch.campaign, silent.campaign])


def test_days_as_json(reports: list[Report]) -> None:
    spring, silent = json.loads(render_days(reports, RowFormat.JSON, UTC))
    zero = dict.fromkeys(("opened", "clicked", "spam", "unsubscribed"), 0)
    assert spring["days"] == [
        {"day": "2026-11-24", **zero, "opened": 5},
        {"day": "2026-11-25", "opened": 1, "clicked": 2, "spam": 1, "unsubscribed": 1},
    ]
    assert silent["days"] == []
    assert silent["engagement_as_of"] is None
    assert (spring["campaign"], spring["run"], spring["seed"], spring["state"]) == (
        *("spring", reports[0].campaign.run_id, 1, "running"),
    )
    for report, days in zip(reports, (spring, silent), strict=True):
        assert days["as_of"] == report.as_json()["as_of"]
        assert days["engagement_as_of"] == report.as_json()["sent"]["engagement_as_of"]


def test_days_as_csv(reports: list[Report]) -> None:
    rows = list(csv.DictReader(io.StringIO(render_days(reports, RowFormat.CSV, UTC))))
    assert [(row["campaign"], row["day"], row["opened"]) for row in rows] == [
        ("spring", "2026-11-24", "5"),
        ("spring", "2026-11-25", "1"),
        ("silent", "", ""),
    ]
    assert {"run", "seed", "state", "as_of", "engagement_as_of"} <= rows[0].keys()


def test_days_as_a_table(reports: list[Report]) -> None:
    spring, silent = render_days(reports, RowFormat.TABLE, UTC).split("\n\n\n")
    heading, as_of, _, header, *days, total = spring.splitlines()
    assert heading.startswith("Engagement by day   spring · email · run ")
    assert as_of.startswith("as of ")
    assert as_of.endswith(" UTC")
    assert header.split()[:3] == ["Day", "Opened", "Clicked"]
    assert header.endswith("Marked as spam  Marked unsubscribed")
    assert [day.split() for day in days] == [
        ["2026-11-24", "5", "0", "0", "0"],
        ["2026-11-25", "1", "2", "1", "1"],
    ]
    assert total.split() == ["Total", "6", "2", "1", "1"]
    assert "no rollup yet" in silent


def test_an_sms_campaign_has_no_table_of_days() -> None:
    sms = make_report({}, campaign=replace(SPRING, channel=Channel.SMS))
    text = render_days([sms], RowFormat.TABLE, UTC)
    assert text.splitlines()[1:] == ["no engagement reported; an SMS has no opens"]
