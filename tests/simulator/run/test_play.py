"""How often the driver reads the progress of a run."""

import pytest

from simulator.run.play import progress_interval


@pytest.mark.parametrize(("elapsed", "interval"), [(0, 0.1), (4, 0.2), (10, 0.5), (3600, 0.5)])
def test_a_longer_run_is_read_less_often(elapsed: float, interval: float) -> None:
    assert progress_interval(elapsed) == pytest.approx(interval)
