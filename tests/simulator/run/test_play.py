"""How often the driver reads the progress of a run."""

import pytest

from simulator.run.play import MAX_PAUSE_SECONDS, PollTimer, progress_interval


@pytest.mark.parametrize(("elapsed", "interval"), [(0, 0.1), (4, 0.2), (10, 0.5), (3600, 0.5)])
def test_a_longer_run_is_read_less_often(elapsed: float, interval: float) -> None:
    assert progress_interval(elapsed) == pytest.approx(interval)


@pytest.mark.parametrize(
    ("duration", "interval", "pause"),
    [(0.0, 1.0, 1.0), (0.5, 1.0, 2.5), (60.0, 1.0, MAX_PAUSE_SECONDS), (60.0, 30.0, 30.0)],
)
def test_a_check_that_took_long_is_repeated_later_but_never_much_later(
    monkeypatch: pytest.MonkeyPatch, duration: float, interval: float, pause: float
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    timer = PollTimer()
    assert timer.is_due()
    now += duration
    timer.restart(interval)
    now += pause - 0.01
    assert not timer.is_due()
    now += 0.02
    assert timer.is_due()
