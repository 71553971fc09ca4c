"""Latencies: exact for each message, on both databases."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    in_gateway,
    in_status,
    make_batch,
    make_campaign,
    move,
    not_sent_for,
)
from tracker.clock import Instant, from_seconds
from tracker.queries.durations import latencies
from tracker.queries.durations.latencies import (
    DRIVER_LAG,
    GATEWAY_TO_OUTCOME,
    QUEUED_TO_FINAL,
    QUEUED_TO_GATEWAY,
    QUEUED_TO_READY,
    READY_TO_GATEWAY,
    Latencies,
    TransitionTimes,
    read_transition_times,
)
from tracker.record.catalog import Batch, Campaign
from tracker.record.journal import QUEUED_STATE, Move, State, enqueue_batch, open_entry
from tracker.status import Reason, Status, Step
from tracker.store.database import Database

START = 1_700_000_000_000_000


def record_move(
    database: Database,
    batch: Batch,
    numbers: Sequence[int],
    source: State,
    target: State,
    at: Instant | Sequence[Instant],
) -> None:
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=START) as written:
        written.move(Move(numbers=numbers, source=source, target=target, at=at))


@pytest.fixture
def campaign(database: Database) -> Campaign:
    """Five messages that arrive a second apart.

    0 is Not Sent. 1 is delivered. 2 soft-bounces, then hard-bounces. 3 is delivered and bounces
    late. 4 is in the gateway.
    """
    campaign = make_campaign(database, Plan(size=5, attempts=2))
    arrivals = [START + from_seconds(number) for number in range(5)]
    batch = enqueue_batch(database, campaign, batch=0, first=0, size=5, author=AUTHOR, at=arrivals)
    bounced, delivered = in_status(Status.SOFT_BOUNCED), in_status(Status.DELIVERED)
    refused = not_sent_for(Reason.UNSUBSCRIBED)
    for numbers, source, target, seconds in (
        ([0], QUEUED_STATE, refused, 7),
        ([1, 2, 3, 4], QUEUED_STATE, READY, 10),
        ([1, 2, 3, 4], READY, in_gateway(1), 12),
        ([1], in_gateway(1), delivered, 13),
        ([2], in_gateway(1), bounced, 15),
        ([3], in_gateway(1), delivered, 20),
        ([2], bounced, in_gateway(2), 21),
        ([2], in_gateway(2), in_status(Status.HARD_BOUNCED, 2), 24),
        ([3], delivered, in_status(Status.HARD_BOUNCED), 40),
    ):
        record_move(database, batch, numbers, source, target, START + from_seconds(seconds))
    return campaign


def durations(times: TransitionTimes, span: latencies.Span) -> list[float]:
    return sorted((times.span_times(span).durations / 1e6).tolist())


def test_spans_are_read_from_the_transitions(database: Database, campaign: Campaign) -> None:
    with database.read() as connection:
        times = read_transition_times(connection, replace(campaign, started_at=START))
    assert durations(times, QUEUED_TO_READY) == [6, 7, 8, 9]
    assert durations(times, READY_TO_GATEWAY) == [2, 2, 2, 2]
    assert durations(times, QUEUED_TO_GATEWAY) == [8, 9, 10, 11]
    assert durations(times, GATEWAY_TO_OUTCOME) == [1, 3, 3, 8], "each attempt has its own"
    assert durations(times, QUEUED_TO_FINAL) == [7, 12, 22, 37], "a late bounce is the end"
    assert len(times.span_times(DRIVER_LAG).durations) == 5
    assert times.entered_per_second(Status.QUEUED).sum() == 5
    assert times.entered_per_second(Status.IN_GATEWAY).sum() == 5
    assert times.entered_per_second(Status.HARD_BOUNCED).sum() == 2
    assert times.first_arrival == START
    assert times.last_acceptance == START + 12_000_000, "first attempts only"
    assert sorted(times.span_times(GATEWAY_TO_OUTCOME).end_seconds.tolist()) == [13, 15, 20, 24]
    assert np.flatnonzero(times.entered_per_second(Status.HARD_BOUNCED)).tolist() == [24, 40]


def test_range_of_messages(database: Database, campaign: Campaign) -> None:
    with database.read() as connection:
        times = read_transition_times(connection, campaign, 1, 2)
        nothing = read_transition_times(connection, campaign, 5, 10)
    assert durations(times, QUEUED_TO_GATEWAY) == [10, 11]
    assert durations(times, QUEUED_TO_FINAL) == [12, 22]
    assert durations(nothing, QUEUED_TO_FINAL) == []


def test_chunks_do_not_change_the_result(
    database: Database, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.read() as connection:
        whole = read_transition_times(connection, campaign)
        monkeypatch.setattr(latencies, "MESSAGES_PER_CHUNK", 2)
        parts = read_transition_times(connection, campaign)
    for span in latencies.SPANS:
        assert durations(parts, span) == durations(whole, span)
    parts.merge(whole)
    assert durations(parts, QUEUED_TO_GATEWAY) == sorted(2 * durations(whole, QUEUED_TO_GATEWAY))
    assert parts.entered_per_second(Status.DELIVERED).sum() == 4
    assert parts.last_acceptance == whole.last_acceptance


def delivered_chunk(queued: NDArray[np.int64], seconds: float) -> TransitionTimes:
    """Messages that the gateway delivers some seconds after their arrival."""
    times = TransitionTimes(START, 1.0)
    entries = {
        (Status.QUEUED, 0): queued,
        (Status.ABOUT_TO_BE_SENT, 0): queued + 1,
        (Status.IN_GATEWAY, 1): queued + 2,
        (Status.DELIVERED, 1): queued + from_seconds(seconds),
    }
    times.add_chunk(entries, 1, queued + 3, retry_pauses={})
    return times


@pytest.mark.parametrize(
    ("arrival", "seconds"),
    [(0, 0.5), (-1, 0.5), (-10, 0.5), (2**32 - 2, 0.5), (2**32 - 1, 3), (0, 5_000), (5_000, -7)],
)
def test_times_are_exact_wherever_they_lie(arrival: int, seconds: float) -> None:
    """Before the run by a wrong clock, at its start, and around 71 minutes, where 32 bits end."""
    times = delivered_chunk(START + arrival + np.arange(2), seconds)
    assert durations(times, QUEUED_TO_FINAL) == [seconds] * 2
    assert durations(times, QUEUED_TO_GATEWAY) == [2e-6] * 2
    ended = [max(0, int((arrival + number) / 1e6 + seconds)) for number in range(2)]
    assert times.span_times(GATEWAY_TO_OUTCOME).end_seconds.tolist() == ended


def test_a_message_takes_five_instants_of_four_bytes() -> None:
    queued = START + np.arange(25_000)
    tracemalloc.start()
    times = delivered_chunk(queued, 1)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(times.span_times(QUEUED_TO_FINAL).durations) == len(queued)
    assert 20 <= size / len(queued) < 21


def test_driver_lag_is_from_arrival_until_recorded(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=6))
    now = campaign.clock.now()
    for batch, late in enumerate((2_000_000, 50_000_000)):
        at = [now - late] * 3
        enqueue_batch(
            database, campaign, batch=batch, first=3 * batch, size=3, author=AUTHOR, at=at
        )
    with database.read() as connection:
        lags = durations(read_transition_times(connection, campaign), DRIVER_LAG)
    assert [round(lag / 10) for lag in lags] == [0, 0, 0, 5, 5, 5]
    assert min(lags) >= 2


def test_soft_bounced_messages_are_due_after_the_pause_of_their_attempt(database: Database) -> None:
    batch = make_batch(database, Plan(size=2, attempts=3))
    bounces = [in_gateway(1), in_status(Status.SOFT_BOUNCED, 1)]
    move(database, batch, [0], READY, *bounces)
    move(database, batch, [1], READY, *bounces, in_gateway(2), in_status(Status.SOFT_BOUNCED, 2))
    campaign = replace(batch.campaign, retry_after=from_seconds(100))
    with database.read() as connection:
        due = read_transition_times(connection, campaign).retries_due_per_second(1_000)
    assert [due[start : start + 50].sum() for start in (0, 100, 200, 300)] == [0, 2, 1, 0]


def test_campaign_without_messages(database: Database) -> None:
    with database.read() as connection:
        times = read_transition_times(connection, make_campaign(database))
    assert all(durations(times, span) == [] for span in latencies.SPANS)
    assert Latencies(times.span_times(QUEUED_TO_FINAL).durations).percentile(50) is None


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300), st.floats(0.1, 100))
def test_percentile_is_the_smallest_value_that_enough_do_not_exceed(
    micros: list[int], percent: float
) -> None:
    seconds = Latencies(np.array(micros)).percentile(percent)
    assert seconds is not None
    value = from_seconds(seconds)
    assert value in micros
    not_exceeding = sum(other <= value for other in micros)
    fewer = sum(other < value for other in micros)
    assert not_exceeding >= percent / 100 * len(micros) - 1e-6
    assert fewer < percent / 100 * len(micros)


def test_percentiles_of_a_thousand() -> None:
    latencies = Latencies(np.arange(1, 1_001) * 1_000)
    percentiles = [latencies.percentile(percent) for percent in (50, 90, 99, 99.9, 100)]
    assert percentiles == [0.5, 0.9, 0.99, 0.999, 1.0]
