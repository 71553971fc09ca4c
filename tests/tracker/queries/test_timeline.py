"""The story of one message: all that happened to it, in order, and who did it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    ended,
    in_gateway,
    make_batch,
    make_busy_batch,
    make_campaign,
    stopped,
)
from tests.support.tampering import lawless
from tracker.clock import from_datetime, from_seconds
from tracker.errors import NotFound
from tracker.output.report_text import format_timeline as told_text
from tracker.queries.timeline import MessageTimeline, TimelineEvent, read_timeline
from tracker.record.catalog import Batch
from tracker.record.journal import QUEUED_STATE, Author, Move, State, enqueue_batch, open_entry
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import messages, transitions

NOON = 1_700_000_000_000_000
"""2023-11-14 22:13:20 UTC, in microseconds."""

WORKER = Author(worker="worker@host", task_id="t-9")


def story_of(database: Database, batch: Batch, number: int) -> MessageTimeline:
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


def told(events: Sequence[TimelineEvent]) -> list[tuple[str | None, str, int, str | None]]:
    return [(each.step, each.status.slug, each.attempt, each.worker) for each in events]


def test_a_message_with_several_attempts_and_a_late_bounce(database: Database) -> None:
    batch = make_batch(database)
    play(
        database,
        batch,
        4,
        [
            (Step.DISPATCH, READY),
            (Step.SUBMIT, in_gateway(1)),
            (Step.DELIVER, ended(Status.SOFT_BOUNCED, 1)),
            (Step.SUBMIT, in_gateway(2)),
            (Step.DELIVER, ended(Status.SOFT_BOUNCED, 2)),
            (Step.SUBMIT, in_gateway(3)),
            (Step.DELIVER, ended(Status.DELIVERED, 3)),
            (Step.DELIVER, ended(Status.HARD_BOUNCED, 3)),
        ],
    )
    story = story_of(database, batch, 4)
    assert (story.campaign, story.number) == (batch.campaign, 4)
    assert (story.customer_id, story.batch) == ("c4", 0)
    assert told(story.events) == [
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
    assert [event.at for event in story.events[1:]] == [
        first + timedelta(seconds=second) for second in range(8)
    ]
    assert [event.task_id for event in story.events] == ["task-1"] + ["t-9"] * 8
    assert all(event.reason is None for event in story.events)


def test_when_it_happened_and_when_it_was_recorded_are_two_moments(database: Database) -> None:
    batch = make_batch(database)
    before = batch.campaign.clock.now()
    play(database, batch, 0, [(Step.DISPATCH, READY)])
    event = story_of(database, batch, 0).events[-1]
    assert event.at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert event.recorded_at is not None
    assert event.recorded_at.tzinfo is UTC
    assert before <= from_datetime(event.recorded_at) <= batch.campaign.clock.now()


def test_a_message_that_is_not_sent_says_why(database: Database) -> None:
    batch = make_busy_batch(database)
    events = story_of(database, batch, 19).events
    assert told(events) == [
        ("enqueue", "queued", 0, "test"),
        ("validate", "not_sent", 0, "test"),
    ]
    assert [event.reason for event in events] == [None, Reason.EMAIL_MISSING]


def test_a_message_that_is_queued_has_one_event(database: Database) -> None:
    story = story_of(database, make_busy_batch(database), 0)
    assert told(story.events) == [("enqueue", "queued", 0, "test")]


def test_a_story_is_of_one_message_of_one_campaign(database: Database) -> None:
    spring = make_busy_batch(database)
    summer = make_busy_batch(database, Plan(name="summer", size=22))
    play(database, summer, 0, [(Step.SUPPRESS, stopped(Reason.NDNC))])
    assert len(story_of(database, spring, 0).events) == 1
    assert len(story_of(database, summer, 0).events) == 2


def test_a_story_names_the_batch_that_the_message_is_in(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=9))
    made = [
        enqueue_batch(database, campaign, batch=each, first=first, size=size, author=AUTHOR)
        for each, (first, size) in enumerate([(0, 4), (4, 1), (5, 4)])
    ]
    found = [story_of(database, made[0], number).batch for number in range(9)]
    assert found == [0, 0, 0, 0, 1, 2, 2, 2, 2]


def test_a_story_as_other_programs_read_it(database: Database) -> None:
    batch = make_batch(database)
    play(database, batch, 3, [(Step.SUPPRESS, stopped(Reason.UNSUBSCRIBED))])
    story = story_of(database, batch, 3)
    read = json.loads(json.dumps(story.as_json()))
    last = read["events"][-1]
    recorded_at = datetime.fromisoformat(last.pop("recorded_at"))
    assert recorded_at == story.events[-1].recorded_at
    assert last == {
        "at": "2023-11-14T22:13:20+00:00",
        "status": "not_sent",
        "reason": "unsubscribed",
        "attempt": 0,
        "step": "suppress",
        "worker": "worker@host",
        "task_id": "t-9",
        "detail": None,
    }
    assert read["events"][0]["reason"] is None
    assert {key: value for key, value in read.items() if key != "events"} == {
        "campaign": "spring",
        "run": batch.campaign.run_id,
        "number": 3,
        "customer_id": "c3",
        "batch": 0,
        "broke": None,
    }


def test_a_story_is_told_as_far_as_it_is_known(database: Database) -> None:
    batch = make_batch(database)
    play(database, batch, 4, [(Step.DISPATCH, READY), (Step.SUBMIT, in_gateway(1))])
    with lawless(database) as connection:
        edit = sa.update(transitions).where(transitions.c.number == 4)
        connection.execute(edit.where(transitions.c.status == 0).values(at=2**62))
        connection.execute(edit.where(transitions.c.status == 1).values(reason=99))
        connection.execute(edit.where(transitions.c.status == 3).values(step_id=999))
        connection.execute(sa.update(batches).values(first=5))
        connection.execute(sa.update(messages).values(attempt=30_000))
    story = story_of(database, batch, 4)
    first, second, third = story.events
    assert (first.at, first.step) == (None, Step.ENQUEUE)
    assert (second.reason, second.status) == (None, Status.ABOUT_TO_BE_SENT)
    assert (third.recorded_at, third.step, third.worker, third.task_id) == (None,) * 4
    assert (third.attempt, third.status, story.batch) == (1, Status.IN_GATEWAY, None)
    assert json.loads(json.dumps(story.as_json()))["events"][2]["step"] is None
    lines = told_text(story).splitlines()
    assert lines[0].startswith("spring 4 · customer c4 · batch - · run ")
    assert [line.split()[-2:] for line in lines[3:]] == [
        ["test", "task-1"],
        ["worker@host", "t-9"],
        ["1", "-"],
    ]


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(10, id="the first that is not there"),
        pytest.param(-1, id="negative"),
        pytest.param(3_000_000_000, id="beyond 32 bits"),
        pytest.param(10**20, id="beyond 64 bits"),
    ],
)
def test_an_unknown_number_is_not_found_and_the_range_is_said(
    database: Database, number: int
) -> None:
    batch = make_batch(database, Plan(size=10))
    with pytest.raises(NotFound) as unknown:
        story_of(database, batch, number)
    assert str(unknown.value) == f"campaign spring has no message {number}; expected 0 to 9"
    assert unknown.value.exit_code == 2


def test_a_campaign_without_messages_has_no_story(database: Database) -> None:
    campaign = make_campaign(database)
    with database.read() as connection, pytest.raises(NotFound, match="it has none yet"):
        read_timeline(connection, campaign, 0)
