"""The Live Monitoring Report: JSON keys, arithmetic, balance and wording."""

import csv
import io
import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.contract import CONTRACT
from tests.support.factory import (
    AUTHOR,
    READY,
    SPRING,
    Plan,
    connect_interleaved,
    enqueue_batches,
    in_gateway,
    in_status,
    make_batch,
    make_busy_batch,
    make_campaign,
    make_report,
    move,
    not_sent_for,
)
from tests.support.tampering import without_constraints
from tracker.campaign_states import CampaignState
from tracker.clock import SystemClock, from_datetime
from tracker.errors import NotFound, UnreadableRecord
from tracker.organizations import Organization
from tracker.output.report_formats import render_reports
from tracker.output.report_text import format_report
from tracker.output.tables import RowFormat
from tracker.queries.report import Report, make_reports
from tracker.record import catalog, registration
from tracker.record.catalog import Campaign
from tracker.record.journal import QUEUED_STATE, enqueue_batch
from tracker.status import Channel, Reason, Status
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import tallies
from tracker.text import escape_control_characters

AS_OF = from_datetime(datetime(2026, 11, 30, 14, tzinfo=UTC))

CAUSES = (
    "other",
    "unknown_recipient",
    "unknown_domain",
    "invalid_number",
    "mailbox_full",
    "server_down",
    "message_too_large",
    "unreachable",
)
"""Slugs of the causes of bounces: a contract."""

NOTHING: dict[str, Any] = {
    "campaign": "spring",
    "channel": "email",
    "run": 1,
    "seed": 1,
    "state": "scheduled",
    "as_of": "2026-11-30T14:00:00+00:00",
    "audience": 10,
    "sent": {
        "total": 0,
        "delivered": 0,
        "bounced": {
            "total": 0,
            "hard": 0,
            "soft": 0,
            "causes": {"hard": dict.fromkeys(CAUSES, 0), "soft": dict.fromkeys(CAUSES, 0)},
        },
        "x": 0,
        "not_delivered": 0,
        "in_gateway": 0,
        "unconfirmed": 0,
        "opened": 0,
        "clicked": 0,
        "spam": 0,
        "unsubscribed": 0,
        "engaged_then_bounced": 0,
        "engagement_as_of": None,
    },
    "not_sent": {
        "total": 0,
        **{
            category: {"total": 0, **{slug: 0 for its, slug, _ in CONTRACT if its == category}}
            for category in ("internally_suppressed", "incomplete_or_invalid", "system_error")
        },
    },
    "in_progress": {"total": 0, "queued": 0, "deferred": 0, "about_to_be_sent": 0},
    "scheduled": 10,
    "balanced": True,
    "title": None,
    "organization_title": None,
    "audience_title": None,
}

DESIGNED = Counter(
    {
        in_status(Status.DELIVERED): 49_871,
        in_status(Status.HARD_BOUNCED): 1_042,
        in_status(Status.SOFT_BOUNCED, 3): 943,
        in_status(Status.NOT_DELIVERED): 258,
        not_sent_for(Reason.UNSUBSCRIBED): 1_800,
        not_sent_for(Reason.NDNC): 1_800,
        not_sent_for(Reason.MOBILE_MISSING_OR_INVALID): 4_286,
    }
)
"""An example with few reasons."""


def read_report(database: Database, campaign: Campaign) -> Report:
    with database.read() as connection:
        [report] = make_reports(connection, [campaign])
    return report


def overlaid(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with some values of its leaves changed; no key may be new."""
    assert base.keys() >= changes.keys()
    return {
        key: overlaid(value, changes[key]) if isinstance(changes.get(key), dict)
        else changes.get(key, value)
        for key, value in base.items()
    }  # fmt: skip


def test_campaign_without_messages_has_every_key(database: Database) -> None:
    report = replace(read_report(database, make_campaign(database)), as_of=AS_OF)
    assert report.as_json() == NOTHING
    assert json.dumps(report.as_json()) == json.dumps(NOTHING), "in the design's order"


def test_campaign_with_messages_in_every_status(database: Database) -> None:
    batch = make_busy_batch(database)
    report = replace(read_report(database, batch.campaign), as_of=AS_OF)
    assert report.as_json() == overlaid(
        NOTHING,
        {
            "state": "running",
            "audience": 22,
            "scheduled": 0,
            "sent": {
                "total": 12,
                "delivered": 4,
                "bounced": {
                    "total": 5,
                    "hard": 2,
                    "soft": 3,
                    "causes": {
                        "hard": dict.fromkeys(CAUSES, 0) | {"other": 2},
                        "soft": dict.fromkeys(CAUSES, 0) | {"other": 3},
                    },
                },
                "x": 3,
                "not_delivered": 1,
                "in_gateway": 2,
                "unconfirmed": 0,
            },
            "not_sent": {
                "total": 5,
                "internally_suppressed": {
                    "total": 3,
                    "organization_disabled": 1,
                    "unsubscribed": 2,
                },
                "incomplete_or_invalid": {"total": 1, "email_missing": 1},
                "system_error": {"total": 1, "timeout": 1},
            },
            "in_progress": {"total": 5, "queued": 2, "deferred": 0, "about_to_be_sent": 3},
        },
    )
    assert report.undecided == 3
    assert report.settled == 13, "5 not sent, 4 delivered, 2 hard, 1 soft for good, 1 undelivered"


@pytest.mark.parametrize("reason", [pytest.param(reason, id=reason.slug) for reason in Reason])
def test_reasons_are_counted_in_their_category(reason: Reason) -> None:
    report = make_report({not_sent_for(reason): 3, QUEUED_STATE: 4})
    changes = {"total": 3, reason.category.value: {"total": 3, reason.slug: 3}}
    assert report.as_json()["not_sent"] == overlaid(NOTHING["not_sent"], changes)
    assert report.is_balanced


CAMPAIGN = Campaign(
    id=1,
    run_id=3,
    name="diwali-email",
    channel=Channel.EMAIL,
    requires=(),
    attempts=3,
    audience_id=1,
    organization=Organization(
        id=1, name="Acme", enabled=True, credit=None, hard_bounce_limit=1, soft_bounce_limit=3
    ),
    gateway_id=1,
    gateway_kind="simulated",
    gateway_settings="{}",
    seed=42,
    started_at=0,
    speed=1,
)


@pytest.mark.parametrize(
    "tampering",
    [
        pytest.param(
            sa.update(tallies).where(tallies.c.status == 6).values(messages=5), id="a tally more"
        ),
        pytest.param(
            sa.update(tallies).where(tallies.c.status == 0).values(messages=1), id="a tally less"
        ),
        pytest.param(sa.delete(tallies).where(tallies.c.reason == 8), id="a tally gone"),
        pytest.param(sa.update(batches).values(size=23), id="a batch that is larger"),
        pytest.param(sa.update(batches).values(size=21), id="a batch that is smaller"),
    ],
)
def test_report_of_damaged_rows_is_not_balanced(
    database: Database, tampering: sa.Executable
) -> None:
    batch = make_busy_batch(database)
    assert read_report(database, batch.campaign).is_balanced
    with database.write() as connection:
        connection.execute(tampering)
    report = read_report(database, batch.campaign)
    assert not report.is_balanced
    assert report.as_json()["balanced"] is False


def test_reports_are_in_the_order_of_the_campaigns(database: Database) -> None:
    one = make_batch(database, Plan(name="one", size=2))
    two = make_batch(database, Plan(name="two", size=3))
    move(database, two, [0, 1], READY)
    with database.read() as connection:
        reports = make_reports(connection, [two.campaign, one.campaign])
        assert make_reports(connection, []) == []
    assert [(report.campaign.name, report.audience, report.counts) for report in reports] == [
        ("two", 3, {QUEUED_STATE: 1, READY: 2}),
        ("one", 2, {QUEUED_STATE: 2}),
    ]


def test_every_snapshot_is_balanced_while_messages_move(
    database: Database,
) -> None:
    size, number = 10, 3_000
    campaign = make_campaign(database, Plan(size=size * number))
    enough = Event()

    def work() -> None:
        for place in range(number):
            batch = enqueue_batch(
                database, campaign, batch=place, first=place * size, size=size, author=AUTHOR
            )
            move(database, batch, range(batch.first, batch.first + 4), not_sent_for(Reason.NDNC))
            rest = range(batch.first + 4, batch.last + 1)
            move(database, batch, rest, READY, in_gateway(), in_status(Status.DELIVERED))
            if enough.is_set():
                break

    writer = Thread(target=work)
    writer.start()
    seen: set[str] = set()
    try:
        while writer.is_alive() and len(seen) < 15:
            report = read_report(database, campaign)
            assert report.is_balanced, format_report(report)
            assert report.recorded % size == 0
            seen.add(repr(report.counts))
    finally:
        enough.set()
        writer.join()
    assert len(seen) >= 15, "too few snapshots"
    last = read_report(database, campaign)
    assert last.is_balanced
    assert last.settled == last.recorded


def test_report_is_of_one_snapshot(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=20))
    work = enqueue_batches(database, campaign)
    with connect_interleaved(database, work) as reader, reader.read() as connection:
        before = make_reports(connection, [campaign])
        assert before[0].is_balanced
        assert make_reports(connection, [campaign]) == before
    assert read_report(database, campaign).recorded > before[0].recorded + 1


def test_text_of_a_report(database: Database) -> None:
    batch = make_busy_batch(database)
    text = format_report(replace(read_report(database, batch.campaign), as_of=AS_OF))
    assert re.sub(r"(?<=\S) +", " ", text) == GOLDEN.format(run=batch.campaign.run_id)


GOLDEN = """\
Live Monitoring Report spring · email · run {run} · seed 1 · running · 30 Nov 2026 14:00:00 UTC

Audience 22
Sent 12 54.5 %
  Delivered 4 33.3 %
    Opened 0 – no rollup yet (daily at 1 am)
    Clicked 0 – no rollup yet (daily at 1 am)
    Marked as spam 0 0.0 %
    Marked unsubscribed 0 0.0 %
  Bounced 5 41.7 %
    Hard 2 16.7 %
      Other 2 16.7 %
    Soft 3 25.0 %
      Other 3 25.0 %
  X 3 25.0 %
    Not delivered 1 8.3 %
    In gateway 2 16.7 %
Not Sent 5 22.7 %
  Internally Suppressed List 3 13.6 %
    Unsubscribed 2 9.1 %
    Organization disabled 1 4.5 %
  Incomplete/Invalid Information 1 4.5 %
    Email address missing 1 4.5 %
  System Error 1 4.5 %
    Timeout 1 4.5 %
In Progress 5 22.7 %
  Queued 2 9.1 %
  About to be Sent 3 13.6 %

✔ balanced 22 = 12 + 5 + 5 and 12 = 4 + 5 + 3"""


@pytest.mark.parametrize(
    "line",
    [
        "Live Monitoring Report   diwali-email · email · run 3 · seed 42 · finished"
        " · 1 Jan 1970 00:00:00 UTC",
        "Audience                                60,000",
        "  Delivered                             49,871    95.7 %",
        "    Opened                                   0         –   no rollup yet (daily at 1 am)",
        "    Hard                                 1,042     2.0 %",
        "    Not delivered                          258     0.5 %",
        "    Unsubscribed                         1,800     3.0 %",
        "  Incomplete/Invalid Information         4,286     7.1 %",
        "  System Error                               0     0.0 %",
        "  About to be Sent                           0     0.0 %",
        "✔ balanced      60,000 = 52,114 + 7,886 + 0   and   52,114 = 49,871 + 1,985 + 258",
    ],
)
def test_lines_of_the_example(line: str) -> None:
    assert line in format_report(make_report(DESIGNED, campaign=CAMPAIGN)).splitlines()


@pytest.mark.parametrize("reason", [pytest.param(reason, id=reason.slug) for reason in Reason])
def test_counts_are_in_one_column_for_every_reason(reason: Reason) -> None:
    text = format_report(make_report({not_sent_for(reason): 1_234}))
    [line] = [line for line in text.splitlines() if reason.title in line]
    assert line.endswith(" 1,234   100.0 %")
    assert len(line) == len("Audience                                60,000   100.0 %")


def test_receipts_that_never_came_are_named_once_the_run_is_finished() -> None:
    counts = {in_gateway(): 179, in_status(Status.DELIVERED): 2_821}
    for state in CampaignState:
        text = format_report(make_report(counts, state=state))
        is_finished = state is CampaignState.FINISHED
        assert ("179 receipts never came during the run" in text) is is_finished
    assert "never came" not in format_report(make_report(DESIGNED)), "none is missing"


def test_scheduled_customers_have_a_line_and_a_place_in_the_sum() -> None:
    lines = format_report(make_report({QUEUED_STATE: 5}, audience=60)).splitlines()
    assert "Scheduled                                   55    91.7 %" in lines
    assert "✔ balanced      60 = 0 + 0 + 5 + 55   and   0 = 0 + 0 + 0" in lines
    assert not any("Scheduled" in line for line in format_report(make_report({})).splitlines())
    surplus = make_report({QUEUED_STATE: 5}, audience=4)
    assert not surplus.is_balanced, "more messages than customers"


def test_titles_stand_beside_the_short_name() -> None:
    organization = replace(SPRING.organization, title="दुकान")
    campaign = replace(SPRING, title="Diwali — Sale 🎉 (SMS)", organization=organization)
    report = make_report(DESIGNED, as_of=AS_OF, campaign=campaign, audience_title="Köln")
    heading, titles, *_ = format_report(report).splitlines()
    assert "spring · Diwali — Sale 🎉 (SMS) · email · run 1" in heading
    assert titles == "from दुकान to Köln"
    values = report.as_json()
    assert (values["campaign"], values["title"]) == ("spring", "Diwali — Sale 🎉 (SMS)")
    assert (values["organization_title"], values["audience_title"]) == ("दुकान", "Köln")


def test_heading_has_run_seed_state_and_time() -> None:
    heading = format_report(make_report(DESIGNED, as_of=AS_OF)).splitlines()[0]
    assert heading.endswith("run 1 · seed 1 · finished · 30 Nov 2026 14:00:00 UTC")


@pytest.mark.parametrize(
    "values", [{"status": 99}, {"reason": 99}, {"attempt": "x"}, {"messages": 2**63 - 1}], ids=str
)
def test_unreadable_tally_is_an_error(database: Database, values: dict[str, Any]) -> None:
    batch = make_busy_batch(database)
    one = sa.update(tallies).where(tallies.c.reason == Reason.EMAIL_MISSING)
    try:
        with without_constraints(database) as connection:
            connection.execute(one.values(values))
    except sa.exc.DBAPIError:
        assert database.is_postgresql, "a column holds numbers of its size"
        return
    expected = f"campaign {batch.campaign.id} has a tally that can't be read"
    if "messages" in values:
        assert not read_report(database, batch.campaign).is_balanced
    else:
        with pytest.raises(UnreadableRecord, match=expected) as unreadable:
            read_report(database, batch.campaign)
        assert unreadable.value.exit_code == 1


def test_control_characters_are_escaped() -> None:
    named = replace(CAMPAIGN, name="\x1b[31mred\u202e\n")
    text = escape_control_characters(format_report(make_report(DESIGNED, campaign=named)))
    assert r"\x1b[31mred\u202e" in text
    assert {character for character in text if not character.isprintable()} == {"\n"}
    assert "✔ balanced" in text


def test_text_of_an_unbalanced_report() -> None:
    text = format_report(make_report(DESIGNED, audience=60_001, recorded=60_001))
    assert "✘ unbalanced    60,001 ≟ 52,114 + 7,886 + 0" in text
    assert "✔" not in text


def test_csv_has_a_column_for_every_json_path(database: Database) -> None:
    campaigns = [make_busy_batch(database).campaign, make_campaign(database, Plan(name="later"))]
    with database.read() as connection:
        reports = make_reports(connection, campaigns)
    text = render_reports(reports, RowFormat.CSV, UTC)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == COLUMNS
    assert [row["campaign"] for row in rows] == ["spring", "later"]
    first = rows[0]
    assert first["sent.bounced.soft"] == "3"
    assert first["not_sent.internally_suppressed.unsubscribed"] == "2"
    assert (first["sent.engagement_as_of"], first["balanced"]) == ("", "True")
    assert "\r" not in text


COLUMNS = [
    *("campaign", "channel", "run", "seed", "state", "as_of"),
    *("audience", "sent.total", "sent.delivered"),
    *("sent.bounced.total", "sent.bounced.hard", "sent.bounced.soft"),
    *(f"sent.bounced.causes.{kind}.{cause}" for kind in ("hard", "soft") for cause in CAUSES),
    *("sent.x", "sent.not_delivered", "sent.in_gateway", "sent.unconfirmed"),
    *("sent.opened", "sent.clicked"),
    *("sent.spam", "sent.unsubscribed", "sent.engaged_then_bounced"),
    *("sent.engagement_as_of", "not_sent.total"),
    *(
        f"not_sent.{category}.{column}"
        for category in ("internally_suppressed", "incomplete_or_invalid", "system_error")
        for column in ("total", *(slug for its, slug, _ in CONTRACT if its == category))
    ),
    *("in_progress.total", "in_progress.queued", "in_progress.deferred"),
    "in_progress.about_to_be_sent",
    *("scheduled", "balanced", "title", "organization_title", "audience_title"),
]


def find(database: Database, name: str | None = None, run: int | None = None) -> list[Campaign]:
    with database.read() as connection:
        return catalog.find_campaigns(connection, name, run)


def test_campaigns_are_found_in_the_latest_run_that_has_them(database: Database) -> None:
    spring = make_campaign(database, Plan(name="spring"))
    again = make_campaign(database, Plan(name="spring"))
    summer = make_campaign(database, Plan(name="summer"))
    assert find(database) == [summer]
    assert find(database, "spring") == [again]
    assert find(database, "spring", spring.run_id) == [spring]
    assert find(database, run=spring.run_id) == [spring]


def test_the_latest_run_is_not_taken_for_the_previous_one(database: Database) -> None:
    """A new run has no campaigns while its audience is being recorded."""
    campaign = make_campaign(database)
    with database.write() as connection:
        registration.record_run(
            connection,
            scenario="test",
            seed=None,
            started_at=SystemClock().now(),
            speed=1,
            definition="",
        )
    with pytest.raises(NotFound, match="run 2 has no campaigns"):
        find(database)
    assert find(database, run=campaign.run_id) == [campaign]


@pytest.mark.parametrize(
    ("name", "run", "message"),
    [
        pytest.param(
            "sprong", None, "unknown campaign 'sprong'; did you mean spring", id="similar"
        ),
        pytest.param(
            "xyz", None, "unknown campaign 'xyz'; expected one of autumn, spring", id="not similar"
        ),
        pytest.param(None, 99, "unknown run 99$", id="unknown run"),
        pytest.param("spring", 99, "unknown run 99$", id="known name, unknown run"),
        pytest.param(None, 3_000_000_000, "unknown run 3000000000", id="a run beyond 32 bits"),
    ],
)
def test_unknown_campaign_or_run_is_an_error_with_suggestions(
    database: Database, name: str | None, run: int | None, message: str
) -> None:
    for campaign_name in ("spring", "autumn"):
        make_campaign(database, Plan(name=campaign_name, size=1))
    with pytest.raises(NotFound, match=message) as unknown:
        find(database, name, run)
    assert unknown.value.exit_code == 2


def test_name_in_another_run_is_not_suggested(database: Database) -> None:
    make_campaign(database, Plan(name="spring"))
    other = make_campaign(database, Plan(name="autumn"))
    with pytest.raises(NotFound) as unknown:
        find(database, "spring", other.run_id)
    assert "did you mean spring" not in str(unknown.value)


@pytest.mark.parametrize("name", [pytest.param(None, id="any"), pytest.param("spring", id="one")])
def test_latest_run_without_campaigns_is_not_answered_with_an_earlier_run(
    database: Database, name: str | None
) -> None:
    earlier = make_campaign(database, Plan(name="spring"))
    with database.write() as connection:
        run = registration.record_run(
            connection, scenario="autumn", seed=1, started_at=0, speed=1, definition=""
        )
    for selected in (None, run):
        with pytest.raises(NotFound, match=f"run {run} has no campaigns"):
            find(database, name, selected)
    assert find(database, name, earlier.run_id) == [earlier]


@pytest.mark.parametrize("name", [pytest.param(None, id="any"), pytest.param("spring", id="one")])
def test_empty_database_is_an_error(database: Database, name: str | None) -> None:
    with pytest.raises(NotFound, match="nothing is recorded yet"):
        find(database, name)
