"""The timeline of one message: its events in order, and who made them."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    in_gateway,
    in_status,
    make_batch,
    make_busy_batch,
    make_campaign,
    not_sent_for,
)
from tests.support.states import finish_run_of
from tests.support.tampering import without_constraints
from tracker.clock import from_datetime, from_seconds
from tracker.errors import NotFound
from tracker.output.report_text import format_timeline
from tracker.queries.timeline import MessageTimeline, TimelineEvent, read_timeline
from tracker.record.catalog import Batch
from tracker.record.deferrals import Deferral, replace_deferrals
from tracker.record.details import TransitionDetail
from tracker.record.engagement import EngagementEvent, record_engagement
from tracker.record.journal import QUEUED_STATE, Author, Move, State, enqueue_batch, open_entry
from tracker.record.receipts import Receipt, apply_receipts
from tracker.status import Engagement, Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages, transitions

NOON = 1_700_000_000_000_000
"""2023-11-14 22:13:20 UTC, in microseconds."""

WORKER = Author(worker="worker@host", task_id="t-9")


def timeline_of(database: Database, batch: Batch, number: int) -> MessageTimeline:
    with database.read() as connection:
        return read_timeline(connection, batch.campaign, number)


def play(
    database: Database, batch: Batch, number: int, scenes: Sequence[tuple[Step, State]]
) -> None:
    """Move one message through states; the n-th happens n seconds after the first."""
    source = QUEUED_STATE
    for second, (step, target) in enumerate(scenes):
        at = NOON + from_seconds(second)
        with open_entry(database, batch, step, WORKER, started_at=at) as written:
            request = Move(numbers=[number], source=source, target=target, at=at)
            assert written.move(request) == [number]
        source = target


def summarize(events: Sequence[TimelineEvent]) -> list[tuple[str | None, str, int, str | None]]:
    return [(event.step, event.status.slug, event.attempt, event.worker) for event in events]


def test_message_with_several_attempts_and_a_late_bounce(database: Database) -> None:
    batch = make_batch(database)
    play(
        database,
        batch,
        4,
        [
            (Step.DISPATCH, READY),
            (Step.SUBMIT, in_gateway(1)),
            (Step.DELIVER, in_status(Status.SOFT_BOUNCED, 1)),
            (Step.SUBMIT, in_gateway(2)),
            (Step.DELIVER, in_status(Status.SOFT_BOUNCED, 2)),
            (Step.SUBMIT, in_gateway(3)),
            (Step.DELIVER, in_status(Status.DELIVERED, 3)),
            (Step.DELIVER, in_status(Status.HARD_BOUNCED, 3)),
        ],
    )
    timeline = timeline_of(database, batch, 4)
    assert (timeline.origin.campaign, timeline.number) == (batch.campaign, 4)
    assert (timeline.customer_id, timeline.batch) == ("c4", 0)
    assert summarize(timeline.events) == [
        ("enqueue", "queued", 0, "test"),
        ("dispatch", "about_to_be_sent", 0, "worker@host"),
        ("submit", "in_gateway", 1, "worker@host"),
        ("deliver", "soft_bounced", 1, "worker@host"),
        ("submit", "in_gateway", 2, "worker@host"),
        ("deliver", "soft_bounced", 2, "worker@host"),
        ("submit", "in_gateway", 3, "worker@host"),
        ("deliver", "delivered", 3, "worker@host"),
        ("deliver", "hard_bounced", 3, "worker@host"),
    ]
    first = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert [event.at for event in timeline.events[1:]] == [
        first + timedelta(seconds=second) for second in range(8)
    ]
    assert [event.task_id for event in timeline.events] == ["task-1"] + ["t-9"] * 8
    assert all(event.reason is None for event in timeline.events)


def test_event_time_and_recording_time_differ(database: Database) -> None:
    batch = make_batch(database)
    before = batch.campaign.clock.now()
    play(database, batch, 0, [(Step.DISPATCH, READY)])
    event = timeline_of(database, batch, 0).events[-1]
    assert event.at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert event.recorded_at is not None
    assert event.recorded_at.tzinfo is UTC
    assert before <= from_datetime(event.recorded_at) <= batch.campaign.clock.now()


def test_not_sent_message_has_its_reason(database: Database) -> None:
    batch = make_busy_batch(database)
    events = timeline_of(database, batch, 19).events
    assert summarize(events) == [
        ("enqueue", "queued", 0, "test"),
        ("validate", "not_sent", 0, "test"),
    ]
    assert [event.reason for event in events] == [None, Reason.EMAIL_MISSING]


@pytest.mark.parametrize(
    ("detail", "note"),
    [
        (None, None),
        (TransitionDetail("night", None), "check night"),
        (TransitionDetail("night", "KeyError: 'city'"), "check night: KeyError: 'city'"),
        (TransitionDetail(None, "marked as spam"), "marked as spam"),
    ],
)
def test_not_sent_message_has_what_its_reason_does_not_say(
    database: Database, detail: TransitionDetail | None, note: str | None
) -> None:
    batch = make_batch(database)
    request = Move(
        numbers=[4],
        source=QUEUED_STATE,
        target=not_sent_for(Reason.RULE_FAILED),
        at=batch.campaign.clock.now(),
        details=None if detail is None else {4: detail},
    )
    with open_entry(database, batch, Step.SUPPRESS, AUTHOR, started_at=0) as written:
        written.move(request)
    timeline = timeline_of(database, batch, 4)
    last = timeline.events[-1]
    assert (last.note, last.as_json()["check"], last.as_json()["detail"]) == (
        note,
        detail and detail.check_name,
        detail and detail.text,
    )
    lines = [line.strip() for line in format_timeline(timeline).splitlines()]
    assert lines[-1] == (note or f"rule_failed: {Reason.RULE_FAILED.meaning}")


def test_queued_message_has_one_event(database: Database) -> None:
    timeline = timeline_of(database, make_busy_batch(database), 0)
    assert summarize(timeline.events) == [("enqueue", "queued", 0, "test")]


def test_timelines_of_campaigns_are_separate(database: Database) -> None:
    spring = make_busy_batch(database)
    summer = make_busy_batch(database, Plan(name="summer", size=22))
    play(database, summer, 0, [(Step.SUPPRESS, not_sent_for(Reason.NDNC))])
    assert len(timeline_of(database, spring, 0).events) == 1
    assert len(timeline_of(database, summer, 0).events) == 2


def test_timeline_names_the_batch_of_the_message(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=9))
    made = [
        enqueue_batch(database, campaign, batch=batch, first=first, size=size, author=AUTHOR)
        for batch, (first, size) in enumerate([(0, 4), (4, 1), (5, 4)])
    ]
    numbers = [timeline_of(database, made[0], number).batch for number in range(9)]
    assert numbers == [0, 0, 0, 0, 1, 2, 2, 2, 2]


def test_timeline_as_json(database: Database) -> None:
    batch = make_batch(database)
    play(database, batch, 3, [(Step.SUPPRESS, not_sent_for(Reason.UNSUBSCRIBED))])
    timeline = timeline_of(database, batch, 3)
    parsed = json.loads(json.dumps(timeline.as_json()))
    last = parsed["events"][-1]
    recorded_at = datetime.fromisoformat(last.pop("recorded_at"))
    assert recorded_at == timeline.events[-1].recorded_at
    assert last == {
        "at": "2023-11-14T22:13:20+00:00",
        "status": "not_sent",
        "reason": "unsubscribed",
        "attempt": 0,
        "step": "suppress",
        "worker": "worker@host",
        "task_id": "t-9",
        "check": None,
        "detail": None,
    }
    assert parsed["events"][0]["reason"] is None
    assert datetime.fromisoformat(parsed["as_of"]).tzinfo is not None
    assert (parsed["run"], parsed["seed"]) == (batch.campaign.run_id, 1)
    assert (parsed["campaign"], parsed["state"]) == ("spring", "running")
    assert {key: value for key, value in parsed.items() if key != "events"} == {
        **timeline.origin.as_json(),
        "number": 3,
        "customer_id": "c3",
        "batch": 0,
        "engagement": [],
        "refused_receipts": [],
        "receipt_missing": False,
        "deferred": None,
        "broke": None,
    }


def test_damaged_rows_leave_gaps_in_the_timeline(database: Database) -> None:
    batch = make_batch(database)
    play(database, batch, 4, [(Step.DISPATCH, READY), (Step.SUBMIT, in_gateway(1))])
    with without_constraints(database) as connection:
        edit = sa.update(transitions).where(transitions.c.number == 4)
        connection.execute(edit.where(transitions.c.status == 0).values(at=2**62))
        connection.execute(edit.where(transitions.c.status == 1).values(reason=99))
        connection.execute(edit.where(transitions.c.status == 3).values(step_id=999))
        connection.execute(sa.update(batches).values(first=5))
        connection.execute(sa.update(messages).values(attempt=30_000))
    timeline = timeline_of(database, batch, 4)
    first, second, third = timeline.events
    assert (first.at, first.step) == (None, Step.ENQUEUE)
    assert (second.reason, second.status) == (None, Status.ABOUT_TO_BE_SENT)
    assert (third.recorded_at, third.step, third.worker, third.task_id) == (None,) * 4
    assert (third.attempt, third.status, timeline.batch) == (1, Status.IN_GATEWAY, None)
    assert json.loads(json.dumps(timeline.as_json()))["events"][2]["step"] is None
    lines = format_timeline(timeline).splitlines()
    assert lines[0].startswith("Message 4   spring · email · run 1 · seed 1 · running · ")
    assert lines[1] == "customer c4 · batch -"
    assert [line.split()[-2:] for line in lines[4:]] == [
        ["test", "task-1"],
        ["worker@host", "t-9"],
        ["1", "-"],
    ]


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(10, id="after the last"),
        pytest.param(-1, id="negative"),
        pytest.param(3_000_000_000, id="beyond 32 bits"),
        pytest.param(10**20, id="beyond 64 bits"),
    ],
)
def test_unknown_number_is_refused_with_the_range_of_numbers(
    database: Database, number: int
) -> None:
    batch = make_batch(database, Plan(size=10))
    with pytest.raises(NotFound) as unknown:
        timeline_of(database, batch, number)
    assert str(unknown.value) == f"campaign spring has no message {number}; expected 0 to 9"
    assert unknown.value.exit_code == 2


def test_message_that_is_not_queued_yet_is_scheduled(database: Database) -> None:
    campaign = make_campaign(database)
    with database.read() as connection:
        with pytest.raises(NotFound) as scheduled:
            read_timeline(connection, campaign, 9)
        with pytest.raises(NotFound, match="it has none yet"):
            read_timeline(connection, campaign, 10)
    assert str(scheduled.value) == (
        f"message 9 of campaign spring is scheduled, not queued; run {campaign.run_id} is scheduled"
    )


def test_receipt_that_never_came_is_named_once_the_run_is_finished(database: Database) -> None:
    batch = make_batch(database)
    play(database, batch, 4, [(Step.DISPATCH, READY), (Step.SUBMIT, in_gateway(1))])
    assert not timeline_of(database, batch, 4).is_receipt_missing
    finish_run_of(database, batch.campaign)
    timeline = timeline_of(database, batch, 4)
    assert timeline.as_json()["receipt_missing"]
    last_line = format_timeline(timeline).splitlines()[-1].strip()
    assert last_line == "the run finished without the gateway's receipt"
    assert not timeline_of(database, batch, 3).is_receipt_missing, "it is still queued"


def test_a_deferred_message_names_its_check_and_its_time(database: Database) -> None:
    batch = make_batch(database)
    deferral = Deferral("quiet_hours", until=NOON, first_deferred_at=NOON)
    with database.write() as connection:
        replace_deferrals(database, connection, batch, {4: deferral})
    timeline = timeline_of(database, batch, 4)
    last_line = format_timeline(timeline).splitlines()[-1].strip()
    assert last_line == "deferred until 2023-11-14 22:13:20 by check quiet_hours"
    assert timeline.as_json()["deferred"] == {
        "until": "2023-11-14T22:13:20+00:00",
        "check": "quiet_hours",
    }
    assert timeline_of(database, batch, 5).deferral is None


def test_actions_and_refused_receipts_are_listed_among_the_events(database: Database) -> None:
    batch = make_batch(database, Plan(tracks_engagement=True))
    play(database, batch, 2, [(Step.DISPATCH, READY), (Step.SUBMIT, in_gateway(1))])
    delivered_at, opened_at = NOON + from_seconds(60), NOON + from_seconds(120)
    receipt = Receipt(2, 1, Status.DELIVERED, delivered_at)
    for copy in range(2):
        with open_entry(database, batch, Step.DELIVER, WORKER, started_at=NOON) as written:
            later = delivered_at + from_seconds(30 * copy)
            apply_receipts(written, [receipt._replace(copy=copy, at=later)])
    with open_entry(database, batch, Step.ENGAGE, WORKER, started_at=NOON) as written:
        clicked_at = opened_at + from_seconds(5)
        events = [
            EngagementEvent(2, Engagement.OPENED, opened_at),
            EngagementEvent(2, Engagement.CLICKED, clicked_at),
            EngagementEvent(3, Engagement.SPAM, opened_at),
        ]
        record_engagement(written, events)
    timeline = timeline_of(database, batch, 2)
    lines = [line.split() for line in format_timeline(timeline).splitlines()[4:]]
    assert [line[1:4] for line in lines[1:]] == [
        ["22:13:20.000000", "about_to_be_sent", "dispatch"],
        ["22:13:21.000000", "in_gateway", "1"],
        ["22:14:20.000000", "delivered", "1"],
        ["22:14:50.000000", "delivered", "1"],
        ["22:15:20.000000", "opened", "by"],
        ["22:15:25.000000", "clicked", "by"],
    ]
    assert lines[4][4:] == ["receipt", "refused:", "duplicate"]
    as_json = timeline.as_json()
    assert as_json["engagement"] == [
        {"at": "2023-11-14T22:15:20+00:00", "kind": "opened"},
        {"at": "2023-11-14T22:15:25+00:00", "kind": "clicked"},
    ]
    assert as_json["refused_receipts"] == [
        {
            "at": "2023-11-14T22:14:50+00:00",
            "status": "delivered",
            "attempt": 1,
            "verdict": "duplicate",
        }
    ]


def test_a_refused_receipt_of_an_unknown_status_is_shown(database: Database) -> None:
    batch = make_batch(database)
    with open_entry(database, batch, Step.DELIVER, WORKER, started_at=NOON) as written:
        apply_receipts(written, [Receipt(2, 7, 99, NOON)])
    last = format_timeline(timeline_of(database, batch, 2)).splitlines()
    assert any("unknown status" in line and "refused: unknown" in line for line in last)
