"""The guarantees of the journal, on both databases."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Barrier, BrokenBarrierError

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    find_violations,
    in_gateway,
    in_status,
    make_batch,
    make_busy_batch,
    make_campaign,
    move,
    not_sent_for,
    read_states,
    read_tallies,
    run_concurrently,
)
from tests.support.statements import executed
from tracker.record import catalog, registration
from tracker.record.catalog import Batch
from tracker.record.details import MAX_DETAIL_LENGTH, TransitionDetail
from tracker.record.journal import (
    QUEUED_STATE,
    Author,
    JournalError,
    Move,
    State,
    enqueue_batch,
    open_entry,
)
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import NO_REASON, transition_details, transitions
from tracker.store.schema.metadata import metadata
from tracker.store.schema.work import steps

TABLES = ("batches", "steps", "messages", "transitions", "tallies")

LATER = 2**53
"""An instant in 2255, after all others, at which a float can't hold each microsecond."""


def everything(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows that the journal writes."""
    with database.read() as connection:
        return {
            name: sorted(map(tuple, connection.execute(sa.select(metadata.tables[name]))), key=str)
            for name in TABLES
        }


def last_step(database: Database) -> sa.RowMapping:
    """Return the row of the last recorded step."""
    query = sa.select(steps).order_by(steps.c.id.desc()).limit(1)
    with database.read() as connection:
        return connection.execute(query).mappings().one()


def test_enqueue_records_messages_transitions_tallies_step_and_batch(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=10))
    by = Author(worker="driver@host", task_id="t-1")
    begun = campaign.clock.now()
    batch = enqueue_batch(database, campaign, batch=3, first=4, size=2, author=by)
    assert batch == Batch(campaign=campaign, batch=3, first=4, size=2)
    step = last_step(database)
    key, at, step_id = campaign.id, step["started_at"], step["id"]
    assert everything(database) == {
        "batches": [(key, 3, 4, 2, at, None, None, None, 0, None, 0)],
        "messages": [(key, 4, 0, NO_REASON, 0), (key, 5, 0, NO_REASON, 0)],
        "transitions": [
            (key, 0, 0, 4, None, NO_REASON, at, step_id),
            (key, 0, 0, 5, None, NO_REASON, at, step_id),
        ],
        "tallies": [(key, 3, 0, NO_REASON, 0, 2)],
        "steps": [
            (step_id, key, 3, "enqueue", "t-1", "driver@host", at, step["finished_at"], 2, None)
        ],
    }
    assert begun <= at <= step["finished_at"] <= campaign.clock.now()
    assert find_violations(database, campaign) == ["batches_follow"], "as it begins at message 4"


@pytest.mark.parametrize(
    ("first", "size", "message"),
    [
        pytest.param(5, 6, "messages 5 to 10: got 5 customers; expected 6", id="one too many"),
        pytest.param(10, 3, "messages 10 to 12: got 0 customers; expected 3", id="all too many"),
    ],
)
def test_enqueue_of_more_than_there_are_customers_leaves_nothing(
    database: Database, first: int, size: int, message: str
) -> None:
    campaign = make_campaign(database, Plan(size=10))
    before = everything(database)
    with pytest.raises(JournalError, match=message):
        enqueue_batch(database, campaign, batch=0, first=first, size=size, author=AUTHOR)
    assert everything(database) == before == {name: [] for name in TABLES}


@pytest.mark.parametrize(
    ("batch", "first"),
    [pytest.param(0, 5, id="the same batch"), pytest.param(1, 4, id="a message again")],
)
def test_enqueueing_a_batch_twice_changes_nothing(
    database: Database, batch: int, first: int
) -> None:
    campaign = make_campaign(database, Plan(size=10))
    enqueue_batch(database, campaign, batch=0, first=0, size=5, author=AUTHOR)
    before = everything(database)
    with pytest.raises(IntegrityError):
        enqueue_batch(database, campaign, batch=batch, first=first, size=5, author=AUTHOR)
    assert everything(database) == before


def test_campaigns_of_one_audience_have_messages_of_their_own(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=3))
    with database.write() as connection:
        other_id = registration.record_campaign(
            connection,
            campaign.run_id,
            organization_id=campaign.organization.id,
            audience_id=campaign.audience_id,
            gateway_id=campaign.gateway_id,
            name="summer",
            channel=campaign.channel,
            requires=(),
            attempts=1,
        )
        other = catalog.load_campaign(connection, other_id)
    one = enqueue_batch(database, campaign, batch=0, first=0, size=3, author=AUTHOR)
    two = enqueue_batch(database, other, batch=0, first=0, size=3, author=AUTHOR)
    move(database, one, [0, 1], READY)
    assert read_tallies(database, one) == {QUEUED_STATE: 1, READY: 2}
    assert read_tallies(database, two) == {QUEUED_STATE: 3}
    assert read_states(database, two) == dict.fromkeys(range(3), QUEUED_STATE)
    assert find_violations(database, campaign, other) == []


def test_a_move_changes_message_transition_tally_step_and_batch(database: Database) -> None:
    batch = make_batch(database, Plan(size=3))
    key, clock = batch.campaign.id, batch.campaign.clock
    begun = clock.now()
    with open_entry(
        database, batch, Step.DISPATCH, Author(worker="w@host"), started_at=77
    ) as written:
        assert written.move(Move(numbers=[2, 0], source=QUEUED_STATE, target=READY, at=begun)) == [
            2,
            0,
        ]
        assert written.moved == 2
    assert read_states(database, batch) == {0: READY, 1: QUEUED_STATE, 2: READY}
    assert read_tallies(database, batch) == {QUEUED_STATE: 1, READY: 2}
    step = last_step(database)
    row = [step[name] for name in ("batch", "step", "task_id", "worker", "started_at", "moved")]
    assert row == [0, "dispatch", None, "w@host", 77, 2]
    changes = sa.select(transitions).where(transitions.c.status == READY.status)
    with database.read() as connection:
        made = sorted(map(tuple, connection.execute(changes)))
        touched_at = connection.scalar(sa.select(batches.c.touched_at))
    assert made == [(key, 1, 0, number, 0, NO_REASON, begun, step["id"]) for number in (0, 2)]
    assert touched_at is not None
    assert begun <= touched_at <= step["finished_at"] <= clock.now()
    assert find_violations(database, batch.campaign) == []


@pytest.mark.parametrize(
    ("numbers", "source", "target", "moved"),
    [
        pytest.param([0, 1], QUEUED_STATE, READY, [0, 1], id="all are there"),
        pytest.param([0, 2], QUEUED_STATE, READY, [0], id="one has another status"),
        pytest.param([2, 5], QUEUED_STATE, READY, [], id="all have another status"),
        pytest.param([14], in_gateway(1), in_status(Status.DELIVERED, 1), [], id="earlier attempt"),
        pytest.param([14], in_gateway(2), in_status(Status.DELIVERED, 2), [14], id="this attempt"),
        pytest.param([14], in_gateway(3), in_status(Status.DELIVERED, 3), [], id="later attempt"),
        pytest.param([5, 14], in_gateway(), in_status(Status.DELIVERED), [5], id="of two attempts"),
        pytest.param(
            [12, 15], in_status(Status.SOFT_BOUNCED), in_gateway(2), [12], id="resubmitted"
        ),
        pytest.param(
            [6, 10], in_status(Status.DELIVERED), in_status(Status.HARD_BOUNCED), [6], id="late"
        ),
        pytest.param(
            [0, 17], QUEUED_STATE, not_sent_for(Reason.NDNC), [0], id="one is stopped already"
        ),
        pytest.param([0, 99, -1], QUEUED_STATE, READY, [0], id="one that does not exist"),
        pytest.param([], QUEUED_STATE, READY, [], id="none are asked for"),
    ],
)
def test_only_messages_in_the_source_state_move(
    database: Database, numbers: list[int], source: State, target: State, moved: list[int]
) -> None:
    batch = make_busy_batch(database)
    before = read_states(database, batch)
    now = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=0) as written:
        moved_numbers = written.move(Move(numbers=numbers, source=source, target=target, at=now))
    assert sorted(moved_numbers) == moved
    assert read_states(database, batch) == before | dict.fromkeys(moved, target)
    assert read_tallies(database, batch) == Counter(read_states(database, batch).values())
    with database.read() as connection:
        at_nine = connection.scalars(
            sa.select(transitions.c.number).where(
                transitions.c.at == now, transitions.c.step_id == written.step_id
            )
        ).all()
        count = connection.scalar(sa.select(steps.c.moved).order_by(steps.c.id.desc()))
    assert (sorted(at_nine), count) == (moved, len(moved))
    assert find_violations(database, batch.campaign) == []


def test_each_message_moves_at_its_own_instant(database: Database) -> None:
    batch = make_batch(database)
    move(database, batch, [1], READY)
    with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=0) as written:
        instants = {3: LATER + 30, 1: LATER + 10, 2: LATER + 1, 0: LATER}
        request = Move(
            numbers=list(instants), source=QUEUED_STATE, target=READY, at=list(instants.values())
        )
        assert sorted(written.move(request)) == [0, 2, 3]
    step_id = written.step_id
    recorded = sa.select(transitions.c.number, transitions.c.at).where(
        transitions.c.step_id == step_id
    )
    with database.read() as connection:
        rows = connection.execute(recorded).all()
    assert dict(map(tuple, rows)) == {3: LATER + 30, 2: LATER + 1, 0: LATER}
    assert find_violations(database, batch.campaign) == ["steps"], (
        "the transitions are later than their step"
    )


def test_every_reason_is_recorded_with_message_transition_and_tally(database: Database) -> None:
    batch = make_batch(database, Plan(size=len(Reason) * 2))
    with open_entry(database, batch, Step.VALIDATE, AUTHOR, started_at=0) as written:
        for number, reason in enumerate(Reason):
            pair = [number, number + len(Reason)]
            request = Move(
                numbers=pair,
                source=QUEUED_STATE,
                target=not_sent_for(reason),
                at=batch.campaign.clock.now(),
            )
            assert written.move(request) == pair
    assert written.moved == len(Reason) * 2
    assert read_tallies(database, batch) == {not_sent_for(reason): 2 for reason in Reason}
    recorded = sa.select(transitions.c.number, transitions.c.reason).where(
        transitions.c.status == Status.NOT_SENT
    )
    with database.read() as connection:
        reasons = dict(map(tuple, connection.execute(recorded)))
    assert reasons == {number: list(Reason)[number % len(Reason)] for number in range(batch.size)}
    assert find_violations(database, batch.campaign) == []


def test_details_are_recorded_for_the_moved_messages_in_one_statement(database: Database) -> None:
    batch = make_batch(database, Plan(size=4))
    move(database, batch, [1], not_sent_for(Reason.NDNC))
    long_text = "x" * 2 * MAX_DETAIL_LENGTH
    request = Move(
        numbers=range(4),
        source=QUEUED_STATE,
        target=not_sent_for(Reason.RULE_FAILED),
        at=batch.campaign.clock.now(),
        details={
            0: TransitionDetail("night", "KeyError: 'ä'"),
            1: TransitionDetail("night", "it doesn't move"),
            2: TransitionDetail(text=f"\0\udc80{long_text}"),
        },
    )
    entry = open_entry(database, batch, Step.SUPPRESS, AUTHOR, started_at=0)
    with executed(database) as statements, entry as written:
        assert sorted(written.move(request)) == [0, 2, 3]
    assert sum("transition_details" in statement for statement, _ in statements) == 1
    with database.read() as connection:
        rows = connection.execute(sa.select(transition_details)).all()
    assert {row[:1] + row[2:4] for row in rows} == {(batch.campaign.id, 0, Status.NOT_SENT)}
    assert {row.number: (row.check_name, row.detail) for row in rows} == {
        0: ("night", "KeyError: 'ä'"),
        2: (None, f"?{long_text}"[: MAX_DETAIL_LENGTH - 1]),
    }


def test_moves_without_details_write_none(database: Database) -> None:
    batch = make_batch(database, Plan(size=2))
    with executed(database) as statements:
        move(database, batch, [0], not_sent_for(Reason.NDNC))
    assert not [statement for statement, _ in statements if "transition_details" in statement]


def test_one_entry_may_move_messages_on(database: Database) -> None:
    batch = make_batch(database, Plan(size=4))
    with open_entry(database, batch, Step.SUBMIT, AUTHOR, started_at=0) as written:
        for source, target, numbers in [
            (QUEUED_STATE, READY, [0, 1, 2]),
            (READY, in_gateway(), [0, 1]),
            (in_gateway(), in_status(Status.DELIVERED), [0]),
        ]:
            request = Move(
                numbers=numbers, source=source, target=target, at=batch.campaign.clock.now()
            )
            assert written.move(request) == numbers
    assert written.moved == 6
    assert read_tallies(database, batch) == {
        QUEUED_STATE: 1,
        READY: 1,
        in_gateway(): 1,
        in_status(Status.DELIVERED): 1,
    }
    assert find_violations(database, batch.campaign) == []


def test_a_repeated_entry_moves_nothing_and_returns_nothing(database: Database) -> None:
    batch = make_batch(database)
    request = Move(
        numbers=range(5), source=QUEUED_STATE, target=READY, at=batch.campaign.clock.now()
    )
    moves = []
    for _ in range(3):
        with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=0) as written:
            moves.append([*written.move(request)])
    assert moves == [[*range(5)], [], []]
    assert read_tallies(database, batch) == {QUEUED_STATE: 5, READY: 5}
    with database.read() as connection:
        moved = connection.scalars(sa.select(steps.c.moved).order_by(steps.c.id)).all()
    assert moved == [10, 5, 0, 0]
    assert find_violations(database, batch.campaign) == []


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(in_gateway(), id="a step too far"),
        pytest.param(QUEUED_STATE, id="on the spot"),
        pytest.param(State(status=Status.NOT_SENT), id="not sent without a reason"),
        pytest.param(State(status=Status.ABOUT_TO_BE_SENT, attempt=1), id="an attempt too early"),
    ],
)
def test_an_illegal_move_is_refused_and_leaves_nothing(database: Database, target: State) -> None:
    batch = make_batch(database)
    before = everything(database)

    def attempt() -> None:
        with open_entry(database, batch, Step.SUBMIT, AUTHOR, started_at=0) as written:
            written.move(
                Move(numbers=[0], source=QUEUED_STATE, target=READY, at=batch.campaign.clock.now())
            )
            written.move(
                Move(numbers=[1], source=QUEUED_STATE, target=target, at=batch.campaign.clock.now())
            )

    with pytest.raises(IntegrityError):
        attempt()
    assert everything(database) == before


def test_an_error_in_the_block_rolls_back(database: Database) -> None:
    batch = make_batch(database)
    before = everything(database)

    def fail() -> None:
        with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=0) as written:
            assert written.move(
                Move(
                    numbers=[0, 1], source=QUEUED_STATE, target=READY, at=batch.campaign.clock.now()
                )
            ) == [
                0,
                1,
            ]
            raise ConnectionError("the gateway hung up")

    with pytest.raises(ConnectionError, match="hung up"):
        fail()
    assert everything(database) == before
    move(database, batch, [0, 1], READY)
    assert find_violations(database, batch.campaign) == []


def moving(
    database: Database, batches: Sequence[Batch], numbers: Sequence[int]
) -> Callable[[], list[int]]:
    """Return work that moves messages of each batch, in one entry each, and returns the counts."""

    def work() -> list[int]:
        counts = []
        for batch in batches:
            there = [batch.first + number for number in numbers]
            with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=0) as written:
                move = Move(
                    numbers=there, source=QUEUED_STATE, target=READY, at=batch.campaign.clock.now()
                )
                counts.append(len(written.move(move)))
        return counts

    return work


def make_batches(database: Database, number: int, size: int) -> list[Batch]:
    campaign = make_campaign(database, Plan(size=number * size))
    return [
        enqueue_batch(database, campaign, batch=batch, first=batch * size, size=size, author=AUTHOR)
        for batch in range(number)
    ]


def test_the_same_moves_by_two_at_once_move_each_message_once(database: Database) -> None:
    made = make_batches(database, 10, 40)
    counts = run_concurrently(*[moving(database, made, range(40))] * 2)
    assert [sum(column) for column in zip(*counts, strict=True)] == [40] * 10
    for batch in made:
        assert read_tallies(database, batch) == {READY: 40}
    assert set(read_states(database, made[0]).values()) == {READY}
    assert find_violations(database, made[0].campaign) == []


def test_entries_on_one_batch_take_turns_and_can_not_deadlock(database: Database) -> None:
    """Each entry moves one half and then the other; they would deadlock if both were open."""
    batch = make_batch(database, Plan(size=40))
    halves = range(20), range(20, 40)
    meeting = Barrier(2)

    def work(one: Sequence[int], other: Sequence[int]) -> int:
        with open_entry(database, batch, Step.DISPATCH, AUTHOR, started_at=0) as written:
            written.move(
                Move(numbers=one, source=QUEUED_STATE, target=READY, at=batch.campaign.clock.now())
            )
            with suppress(BrokenBarrierError):
                meeting.wait(timeout=0.3)
            written.move(
                Move(
                    numbers=other, source=QUEUED_STATE, target=READY, at=batch.campaign.clock.now()
                )
            )
        return written.moved

    moved = run_concurrently(lambda: work(*halves), lambda: work(*reversed(halves)))
    assert sorted(moved) == [0, 40]
    assert read_tallies(database, batch) == {READY: 40}
    assert find_violations(database, batch.campaign) == []


def test_moves_that_overlap_share_the_messages_between_them(database: Database) -> None:
    made = make_batches(database, 8, 30)
    counts = run_concurrently(*(moving(database, made, range(low, low + 20)) for low in (0, 5, 10)))
    assert [sum(column) for column in zip(*counts, strict=True)] == [30] * 8
    assert sum((read_tallies(database, batch) for batch in made), Counter()) == {READY: 240}
    assert find_violations(database, made[0].campaign) == []


def test_batches_move_at_once_without_waiting_for_ever(database: Database) -> None:
    made = make_batches(database, 4, 10)
    counts = run_concurrently(*(moving(database, [batch], range(10)) for batch in made))
    assert counts == [[10]] * 4
    assert find_violations(database, made[0].campaign) == []
