"""Instants, durations and clocks."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tracker.clock import ScaledClock, SystemClock, from_datetime, make_clock, to_datetime

NOON = 1_764_072_000_000_000
"""2025-11-25 12:00 UTC, in microseconds."""

SECOND = 1_000_000

FIRST = from_datetime(datetime.min.replace(tzinfo=UTC))
LAST = from_datetime(datetime.max.replace(tzinfo=UTC))


@given(st.integers(FIRST, LAST))
@example(0)
@example(-1)
@example(FIRST)
@example(LAST)
def test_an_instant_survives_being_shown(instant: int) -> None:
    assert from_datetime(to_datetime(instant)) == instant


@settings(deadline=None)  # the first look at a time zone reads its file
@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.timezones()),
)
def test_a_moment_survives_being_recorded_to_the_microsecond(moment: datetime) -> None:
    again = to_datetime(from_datetime(moment))
    assert again == moment.astimezone(UTC)
    assert again.tzinfo is UTC


@pytest.mark.parametrize(
    ("moment", "instant"),
    [
        pytest.param(datetime(1970, 1, 1, tzinfo=UTC), 0, id="epoch"),
        pytest.param(datetime(2025, 11, 25, 12, tzinfo=UTC), NOON, id="noon"),
        pytest.param(
            datetime(2025, 11, 25, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            NOON,
            id="noon in UTC, seen from Kolkata",
        ),
        pytest.param(datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1, id="before"),
    ],
)
def test_an_instant_counts_microseconds_since_1970(moment: datetime, instant: int) -> None:
    assert from_datetime(moment) == instant


def test_a_moment_without_a_zone_has_no_instant() -> None:
    with pytest.raises(TypeError):
        from_datetime(datetime(2025, 11, 25))  # that is the point


class SetTime:
    """A setter of the computer's time, in microseconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, instant: int, nanoseconds: int = 0) -> None:
        time_ns = instant * 1_000 + nanoseconds
        self._monkeypatch.setattr(time, "time_ns", lambda: time_ns)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> SetTime:
    return SetTime(monkeypatch)


def test_the_system_clock_tells_whole_microseconds(at: SetTime) -> None:
    at(NOON, nanoseconds=999)
    assert SystemClock().now() == NOON


def test_the_system_clock_tells_the_time() -> None:
    before = datetime.now(UTC)
    now = to_datetime(SystemClock().now())
    assert before - timedelta(microseconds=1) <= now <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("speed", "real", "simulated"),
    [
        pytest.param(60, 0, 0, id="agrees at the start"),
        pytest.param(60, 1, 60, id="a minute a second"),
        pytest.param(3_600, 24, 86_400, id="a day in 24 seconds"),
        pytest.param(0.5, 10, 5, id="half as fast"),
        pytest.param(1.5, 30 * 86_400, 45 * 86_400, id="for a month"),
        pytest.param(60, -1, -60, id="before the start"),
    ],
)
def test_a_scaled_clock_runs_speed_times_as_fast(
    at: SetTime, speed: float, real: int, simulated: int
) -> None:
    at(NOON + real * SECOND)
    assert ScaledClock(NOON, speed, 0, NOON).now() == NOON + simulated * SECOND


@settings(deadline=None)
@given(st.floats(0.01, 10_000), st.lists(st.integers(0, 10**14), min_size=2))
def test_a_scaled_clock_never_goes_back(speed: float, ages: list[int]) -> None:
    clock = ScaledClock(NOON, speed, 0, NOON)
    with pytest.MonkeyPatch.context() as monkeypatch:
        at = SetTime(monkeypatch)
        instants = []
        for age in sorted(ages):
            at(NOON + age)
            instants.append(clock.now())
    assert instants == sorted(instants)
    assert all(isinstance(instant, int) for instant in instants)


def test_the_clock_of_a_run_is_the_systems_unless_it_is_sped_up(at: SetTime) -> None:
    at(NOON + 10)
    assert make_clock(NOON, 1) == make_clock(NOON, 1.0) == SystemClock()
    assert make_clock(NOON, 1).now() == NOON + 10
    assert make_clock(NOON, 2).now() == NOON + 20


def test_a_clock_may_start_at_another_time(at: SetTime) -> None:
    midnight = NOON - 12 * 3_600 * SECOND
    for speed in (1, 60):
        at(NOON + 10 * SECOND)
        clock = make_clock(midnight, speed, real_start=NOON)
        assert clock.now() == midnight + speed * 10 * SECOND


def test_a_clock_set_forward_is_ahead_at_any_speed(at: SetTime) -> None:
    at(NOON)
    hour = 3_600_000_000
    for speed in (1, 60):
        plain, ahead = make_clock(NOON, speed), make_clock(NOON, speed, hour)
        assert ahead.now() - hour == plain.now()
