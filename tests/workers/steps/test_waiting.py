"""Which messages of a batch, or of a segment of it, wait for submission."""

import pytest

from tests.support.factory import READY, Plan, in_gateway, in_status, make_batch, move, step_context
from tracker.status import Status
from tracker.store.database import Database
from workers.gateways.throttle import UnlimitedThrottle
from workers.steps.waiting import find_waiting, read_waiting_numbers

SOFT = Status.SOFT_BOUNCED
NEW, AGAIN = (Status.ABOUT_TO_BE_SENT, 0), (SOFT, 1)


class InstantThrottle(UnlimitedThrottle):
    """A throttle of a gateway that keeps to instants."""

    keeps_to_instants = True


@pytest.mark.parametrize(
    ("first", "size", "limit", "expected"),
    [
        pytest.param(0, 6, 9, {NEW: [1, 2], AGAIN: [3]}, id="batch"),
        pytest.param(0, 6, 2, {NEW: [1, 2]}, id="limited batch"),
        pytest.param(2, 2, 9, {NEW: [2], AGAIN: [3]}, id="segment"),
        pytest.param(1, 1, 9, {NEW: [1]}, id="segment of one"),
        pytest.param(4, 2, 9, {}, id="segment that has moved on"),
    ],
)
def test_new_and_bounced_messages_wait(
    database: Database,
    first: int,
    size: int,
    limit: int,
    expected: dict[tuple[Status, int], list[int]],
) -> None:
    batch = make_batch(database, Plan(size=6))
    move(database, batch, [1, 2], READY)
    move(database, batch, [3], READY, in_gateway(), in_status(SOFT))
    move(database, batch, [4, 5], READY, in_gateway())
    context = step_context(database, batch).narrowed(first, size)
    waiting = find_waiting(context, UnlimitedThrottle())
    with database.read() as connection:
        numbers = read_waiting_numbers(connection, context.batch, waiting, limit)
    assert {state: [*found] for state, found in numbers.items()} == expected
    if limit >= size:
        assert waiting.messages == sum(map(len, expected.values()))


@pytest.mark.parametrize(("first", "size", "count"), [(0, 4, 3), (1, 2, 2), (3, 1, 1)])
def test_only_new_messages_wait_first_for_a_gateway_that_keeps_to_instants(
    database: Database, first: int, size: int, count: int
) -> None:
    batch = make_batch(database, Plan(size=4))
    move(database, batch, [0], READY, in_gateway(), in_status(SOFT))
    move(database, batch, [1, 2, 3], READY)
    context = step_context(database, batch).narrowed(first, size)
    assert find_waiting(context, InstantThrottle()).messages == count


@pytest.mark.parametrize(
    ("limit", "expected"), [(9, {NEW: range(3)}), (2, {NEW: range(2)}), (0, {})]
)
def test_a_batch_of_new_messages_waits_as_a_range(
    database: Database, limit: int, expected: dict[tuple[Status, int], range]
) -> None:
    batch = make_batch(database, Plan(size=3))
    move(database, batch, [0, 1, 2], READY)
    context = step_context(database, batch)
    waiting = find_waiting(context, UnlimitedThrottle())
    with database.read() as connection:
        assert read_waiting_numbers(connection, batch, waiting, limit) == expected
