"""Latencies are exact: each message's own, from its transitions, on both databases."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.factory import AUTHOR, READY, Plan, ended, in_gateway, make_campaign, stopped
from tracker.clock import Instant, from_seconds, to_seconds
from tracker.queries import latencies
from tracker.queries.latencies import (
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


def moved(
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
    """Five messages that arrive a second apart: 0 is Not Sent; 1 is delivered; 2 bounces softly,
    then for good; 3 is delivered and bounces late; 4 is in the gateway."""
    made = make_campaign(database, Plan(size=5, attempts=2))
    arrivals = [START + from_seconds(number) for number in range(5)]
    batch = enqueue_batch(database, made, batch=0, first=0, size=5, author=AUTHOR, at=arrivals)
    bounced, delivered = ended(Status.SOFT_BOUNCED), ended(Status.DELIVERED)
    refused = stopped(Reason.UNSUBSCRIBED)
    for numbers, source, target, seconds in (
        ([0], QUEUED_STATE, refused, 7),
        ([1, 2, 3, 4], QUEUED_STATE, READY, 10),
        ([1, 2, 3, 4], READY, in_gateway(1), 12),
        ([1], in_gateway(1), delivered, 13),
        ([2], in_gateway(1), bounced, 15),
        ([3], in_gateway(1), delivered, 20),
        ([2], bounced, in_gateway(2), 21),
        ([2], in_gateway(2), ended(Status.HARD_BOUNCED, 2), 24),
        ([3], delivered, ended(Status.HARD_BOUNCED), 40),
    ):
        moved(database, batch, numbers, source, target, START + from_seconds(seconds))
    return made


def seconds(passages: TransitionTimes, span: latencies.Span) -> list[float]:
    return sorted(to_seconds(passages.timed(span).took).tolist())


def test_each_span_is_from_the_transitions(database: Database, campaign: Campaign) -> None:
    with database.read() as connection:
        passages = read_transition_times(connection, replace(campaign, started_at=START))
    assert seconds(passages, QUEUED_TO_READY) == [6, 7, 8, 9]
    assert seconds(passages, READY_TO_GATEWAY) == [2, 2, 2, 2]
    assert seconds(passages, QUEUED_TO_GATEWAY) == [8, 9, 10, 11]
    assert seconds(passages, GATEWAY_TO_OUTCOME) == [1, 3, 3, 8], "each attempt has its own"
    assert seconds(passages, QUEUED_TO_FINAL) == [7, 12, 22, 37], "a late bounce is the end"
    assert len(passages.timed(DRIVER_LAG).took) == 5
    assert passages.entered(Status.QUEUED).sum() == 5
    assert passages.entered(Status.IN_GATEWAY).sum() == 5
    assert passages.entered(Status.HARD_BOUNCED).sum() == 2
    assert passages.first_arrival == START
    assert passages.last_handover == START + 12_000_000, "first attempts only"
    assert sorted(passages.timed(GATEWAY_TO_OUTCOME).second.tolist()) == [13, 15, 20, 24]
    assert np.flatnonzero(passages.entered(Status.HARD_BOUNCED)).tolist() == [24, 40]


def test_a_part_of_the_messages(database: Database, campaign: Campaign) -> None:
    with database.read() as connection:
        passages = read_transition_times(connection, campaign, 1, 2)
        nothing = read_transition_times(connection, campaign, 5, 10)
    assert seconds(passages, QUEUED_TO_GATEWAY) == [10, 11]
    assert seconds(passages, QUEUED_TO_FINAL) == [12, 22]
    assert seconds(nothing, QUEUED_TO_FINAL) == []


def test_chunks_make_no_difference(
    database: Database, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.read() as connection:
        whole = read_transition_times(connection, campaign)
        monkeypatch.setattr(latencies, "MESSAGES_PER_CHUNK", 2)
        parts = read_transition_times(connection, campaign)
    for span in latencies.SPANS:
        assert seconds(parts, span) == seconds(whole, span)
    parts.merge(whole)
    assert seconds(parts, QUEUED_TO_GATEWAY) == sorted(2 * seconds(whole, QUEUED_TO_GATEWAY))
    assert parts.entered(Status.DELIVERED).sum() == 4
    assert parts.last_handover == whole.last_handover


def test_the_lag_is_from_the_arrival_to_the_record(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=6))
    now = campaign.clock.now()
    for batch, late in enumerate((2_000_000, 50_000_000)):
        at = [now - late] * 3
        enqueue_batch(
            database, campaign, batch=batch, first=3 * batch, size=3, author=AUTHOR, at=at
        )
    with database.read() as connection:
        lags = seconds(read_transition_times(connection, campaign), DRIVER_LAG)
    assert [round(lag / 10) for lag in lags] == [0, 0, 0, 5, 5, 5]
    assert min(lags) >= 2


def test_a_campaign_without_messages(database: Database) -> None:
    with database.read() as connection:
        passages = read_transition_times(connection, make_campaign(database))
    assert all(seconds(passages, span) == [] for span in latencies.SPANS)
    assert Latencies(passages.timed(QUEUED_TO_FINAL).took).percentile(50) is None


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=300), st.floats(0.1, 100))
def test_a_percentile_is_the_smallest_that_so_many_do_not_exceed(
    micros: list[int], percent: float
) -> None:
    found = Latencies(np.array(micros)).percentile(percent)
    assert found is not None
    value = from_seconds(found)
    assert value in micros
    not_exceeding = sum(each <= value for each in micros)
    fewer = sum(each < value for each in micros)
    assert not_exceeding >= percent / 100 * len(micros) - 1e-6
    assert fewer < percent / 100 * len(micros)


def test_percentiles_of_a_thousand() -> None:
    latencies = Latencies(np.arange(1, 1_001) * 1_000)
    found = [latencies.percentile(each) for each in (50, 90, 99, 99.9, 100)]
    assert found == [0.5, 0.9, 0.99, 0.999, 1.0]
