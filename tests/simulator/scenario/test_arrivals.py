"""Arrival times of load shapes, compared with sums done by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.scenario.arrivals import (
    BLAST_SHAPE,
    ArrivalShape,
    LoadPhase,
    constant_shape,
    ramp_shape,
    spike_shape,
    steps_shape,
)

RATES = st.floats(0.01, 5_000)
SECONDS = st.floats(0.05, 100)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        pytest.param(BLAST_SHAPE, {0: 0.0, 999: 0.0}, id="blast"),
        pytest.param(constant_shape(2_000), {0: 0.0, 1: 0.0005, 4_000: 2.0}, id="constant"),
        # 10·t + 9·t² = n: the rate grows by 18 a second.
        pytest.param(ramp_shape(10, 100, 5), {0: 0.0, 19: 1.0, 275: 5.0, 375: 6.0}, id="ramp up"),
        pytest.param(ramp_shape(100, 10, 5), {275: 5.0, 285: 6.0}, id="ramp down"),
        pytest.param(ramp_shape(0, 8, 2), {2: 1.0, 8: 2.0, 16: 3.0}, id="ramp from nothing"),
        pytest.param(
            steps_shape([(500, 30), (0, 5), (1_000, 1)]),
            {0: 0.0, 14_999: 29.998, 15_000: 35.0, 16_000: 36.0, 18_000: 38.0},
            id="steps with a pause",
        ),
        pytest.param(steps_shape([(0, 3), (1, 1)]), {0: 3.0, 2: 5.0}, id="a pause first"),
        pytest.param(
            spike_shape(200, 8_000, 30, 5), {6_000: 30.0, 46_000: 35.0, 46_200: 36.0}, id="spike"
        ),
        pytest.param(spike_shape(10, 20, 0, 1), {20: 1.0, 30: 2.0}, id="spike at once"),
    ],
)
def test_messages_arrive_as_the_area_under_the_rate_grows(
    shape: ArrivalShape, expected: dict[int, float]
) -> None:
    for number, seconds in expected.items():
        [arrival] = shape.arrival_times(number, 1)
        assert arrival == pytest.approx(seconds, abs=1e-9), number


shapes = st.one_of(
    st.builds(constant_shape, RATES),
    st.builds(ramp_shape, st.floats(0, 5_000), RATES, SECONDS),
    st.builds(spike_shape, RATES, RATES, st.floats(0, 100), SECONDS),
    st.lists(st.tuples(st.floats(0, 5_000), SECONDS), min_size=1, max_size=5).map(
        lambda levels: steps_shape([*levels, (1.0, 1.0)])
    ),
)


@given(shapes, st.integers(0, 50_000), st.integers(1, 500))
def test_arrived_messages_are_those_with_an_earlier_arrival_time(
    shape: ArrivalShape, first: int, count: int
) -> None:
    arrivals = shape.arrival_times(first, count)
    assert np.all(np.isfinite(arrivals))
    assert np.all(arrivals >= 0)
    assert np.all(np.diff(arrivals) >= -1e-9)
    np.testing.assert_array_equal(arrivals[-1:], shape.arrival_times(first + count - 1, 1))
    # Rounding may leave out the message that arrives at this very instant.
    assert shape.count_arrived(float(arrivals[-1])) in (first + count - 1, first + count)
    assert shape.count_arrived(float(arrivals[-1]) + 1e-3 + 1e-6 * arrivals[-1]) >= first + count


@given(shapes, st.floats(0, 300))
def test_no_message_arrives_before_its_time(shape: ArrivalShape, seconds: float) -> None:
    arrived = shape.count_arrived(seconds)
    if arrived:
        assert shape.arrival_times(arrived - 1, 1)[0] <= seconds
    assert shape.arrival_times(arrived, 1)[0] >= seconds - 1e-6 * (1 + seconds)


def test_messages_after_a_pause_arrive_after_it() -> None:
    shape = steps_shape([(0, 60), (10, 1), (0, 10), (10, 5)])
    assert [shape.count_arrived(seconds) for seconds in (0, 59.9, 60, 61, 70.9, 71)] == [
        0,
        0,
        1,
        10,
        10,
        11,
    ]


def test_no_message_arrives_before_the_start() -> None:
    assert [shape.count_arrived(-0.001) for shape in (BLAST_SHAPE, constant_shape(1_000))] == [0, 0]
    assert BLAST_SHAPE.count_arrived(0) > 10**9
    assert constant_shape(1_000).count_arrived(0) == 1


def test_arrival_times_do_not_depend_on_the_batch() -> None:
    shape = ArrivalShape((LoadPhase(2, 100, 300), LoadPhase(1, 0, 0), LoadPhase(3, 300, 50)))
    whole = shape.arrival_times(0, 2_000)
    parts = [shape.arrival_times(first, 250) for first in range(0, 2_000, 250)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
