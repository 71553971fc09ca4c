"""A run over time: what happened in which second, exact, and what was sampled then."""

import numpy as np
import pytest

from simulator.results import timeseries
from simulator.results.observations import ResourceUsage, Sample
from simulator.results.timeseries import Timeseries, make_timeseries, parse_timeseries
from tracker.clock import from_seconds
from tracker.monitoring import QueueDepth
from tracker.queries.durations.latencies import Latencies, TransitionTimes
from tracker.status import Status
from workers.queues import QUEUES

BEGUN = 1_000_000_000


def micros(*seconds: float) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([BEGUN + from_seconds(second) for second in seconds], np.int64)


@pytest.fixture
def passages() -> TransitionTimes:
    """Four messages: three delivered, at once, after a second and after three; one stays queued."""
    made = TransitionTimes(BEGUN, 1.0)
    made.add_chunk(
        {
            (Status.QUEUED, 0): micros(0.1, 0.2, 1.5, 1.6),
            (Status.ABOUT_TO_BE_SENT, 0): np.append(micros(0.1, 0.4, 1.8), -1),
            (Status.IN_GATEWAY, 1): np.append(micros(0.2, 0.9, 3.0), -1),
            (Status.DELIVERED, 1): np.append(micros(0.3, 1.2, 4.5), -1),
        },
        1,
        micros(0.2, 0.2, 1.6, 1.6),
        retry_pauses={},
    )
    return made


DEPTHS = dict.fromkeys(QUEUES, QueueDepth(2, 1))


def column(series: Timeseries, name: str) -> list[float | None]:
    return [None if np.isnan(value) else value for value in series.columns[name].tolist()]


def test_a_row_a_second(passages: TransitionTimes) -> None:
    series = make_timeseries(passages, [], 5)
    assert column(series, "second") == [0, 1, 2, 3, 4]
    assert column(series, "arrivals") == [2, 2, 0, 0, 0]
    assert column(series, "in_gateway") == [2, 0, 0, 1, 0]
    assert column(series, "delivered") == [1, 1, 0, 0, 1]
    assert column(series, "in_flight") == [1, 2, 2, 2, 1]
    assert column(series, "queued_to_gateway_p50") == [0.1, None, None, 1.5, None]
    assert column(series, "queued_to_gateway_p99") == [0.7, None, None, 1.5, None]
    assert column(series, "queued_to_final_p95") == [0.2, 1.0, None, None, 3.0]
    assert column(series, "queued_ready") == [None] * 5


def test_longer_intervals_are_exact_too(passages: TransitionTimes) -> None:
    series = make_timeseries(passages, [], 5, 2)
    assert column(series, "second") == [0, 2, 4]
    assert column(series, "arrivals") == [4, 0, 0]
    assert column(series, "in_flight") == [2, 2, 1]
    assert column(series, "queued_to_final_p50") == [0.2, None, 3.0]
    assert column(series, "queued_to_final_p99") == [1.0, None, 3.0]


@pytest.mark.parametrize("interval", [1, 2])
def test_percentiles_of_a_row_are_those_of_the_messages_that_ended_in_it(
    monkeypatch: pytest.MonkeyPatch, interval: int
) -> None:
    monkeypatch.setattr(timeseries, "MESSAGES_PER_CHUNK", 7)
    chance = np.random.default_rng(1)
    ended = chance.integers(from_seconds(6), size=100)
    took = chance.integers(1, from_seconds(3), size=100)
    passages = TransitionTimes(BEGUN, 1.0)
    queued = BEGUN + ended - took
    entries = {(Status.QUEUED, 0): queued, (Status.DELIVERED, 1): BEGUN + ended}
    passages.add_chunk(entries, 1, queued, retry_pauses={})
    series = make_timeseries(passages, [], 6, interval)
    row = ended // from_seconds(interval)
    for name, percent in (("p50", 50), ("p99", 99)):
        assert column(series, f"queued_to_final_{name}") == [
            Latencies(took[row == number]).percentile(percent) for number in range(6 // interval)
        ]


def test_samples_are_stored_at_their_times(passages: TransitionTimes) -> None:
    deeper = {**DEPTHS, "queued": QueueDepth(9, 0)}
    samples = [
        Sample(second=0, depths=DEPTHS, usage=ResourceUsage(cpu=0.5, memory=10)),
        Sample(second=1, depths=deeper, usage=None),
        Sample(second=3, depths=None, usage=ResourceUsage(cpu=1.5, memory=30)),
        Sample(second=99, depths=deeper, usage=None),
    ]
    series = make_timeseries(passages, samples, 5)
    assert column(series, "queued_ready") == [2, 9, None, None, None]
    assert column(series, "gateway_unacked") == [1, 1, None, None, None]
    assert column(series, "workers_cpu") == [0.5, None, None, 1.5, None]
    series = make_timeseries(passages, samples, 5, 2)
    assert column(series, "queued_ready") == [9, None, None], "the deepest"
    assert column(series, "workers_memory") == [10, 30, None]


def test_a_faster_clock_and_a_wrong_one() -> None:
    passages = TransitionTimes(BEGUN, 100.0)
    passages.add_chunk(
        {(Status.QUEUED, 0): micros(-5, 0, 100, 150, 900)},
        1,
        micros(0, 0, 0, 0, 0),
        retry_pauses={},
    )
    series = make_timeseries(passages, [], 3)
    assert column(series, "arrivals") == [2, 2, 1], "what lies outside is in the first or the last"


def test_csv_there_and_back(passages: TransitionTimes) -> None:
    samples = [Sample(second=1, depths=DEPTHS, usage=ResourceUsage(cpu=0.123456789, memory=10**9))]
    series = make_timeseries(passages, samples, 5)
    summary = {"run": 7, "seed": 42, "state": "finished", "started_at": "2026-11-30T17:24:00+00:00"}
    text = series.as_csv(summary)
    header, first, second, *_ = text.splitlines()
    assert header.endswith(",run,seed,state,started_at")
    assert second.endswith(",7,42,finished,2026-11-30T17:24:00+00:00")
    assert header.startswith("second,arrivals,about_to_be_sent,not_sent,in_gateway,")
    assert first.startswith("0,2,")
    assert ",0.123457,1000000000," in second
    back = parse_timeseries(text)
    assert list(back.columns) == list(series.columns)
    assert back.interval == 1
    for name, values in series.columns.items():
        np.testing.assert_allclose(back.columns[name], values, rtol=1e-5)
    with pytest.raises(ValueError, match="could not convert"):
        parse_timeseries("second,arrivals\n0,many\n")


def test_a_run_without_anything() -> None:
    series = make_timeseries(TransitionTimes(BEGUN, 1.0), [], 1)
    assert column(series, "arrivals") == [0]
    assert column(series, "queued_to_final_p50") == [None]
