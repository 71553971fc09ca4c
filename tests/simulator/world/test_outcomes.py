"""Drawn outcomes and latencies have the shares and percentiles of the gateway's behaviour."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from simulator.world.behaviour import GatewayBehaviour, LatencyDistribution
from simulator.world.outcomes import draw_outcomes
from tracker.status import Status

DRAWS = 200_000

FICKLE = GatewayBehaviour(
    latency=LatencyDistribution(median=timedelta(milliseconds=800), p99=timedelta(seconds=4)),
    hard_bounce=0.1,
    soft_bounce=0.2,
    not_delivered=0.05,
)


@pytest.mark.parametrize(
    ("hard", "soft", "lost"),
    [
        pytest.param(0.0, 0.0, 0.0, id="all delivered"),
        pytest.param(1.0, 0.0, 0.0, id="all bounce hard"),
        pytest.param(0.0, 1.0, 0.0, id="all bounce softly"),
        pytest.param(0.0, 0.0, 1.0, id="all lost"),
        pytest.param(0.02, 0.03, 0.005, id="as in life"),
        pytest.param(0.5, 0.25, 0.25, id="none delivered"),
        pytest.param(0.0, 0.5, 0.5, id="none between"),
    ],
)
@pytest.mark.parametrize("attempt", [1, 2])
def test_outcomes_have_the_shares_of_the_behaviour(
    hard: float, soft: float, lost: float, attempt: int
) -> None:
    behaviour = GatewayBehaviour(hard_bounce=hard, soft_bounce=soft, not_delivered=lost)
    statuses, _ = draw_outcomes(behaviour, 42, "spring", attempt, 0, DRAWS)
    shares = {
        Status.HARD_BOUNCED: hard,
        Status.SOFT_BOUNCED: soft,
        Status.NOT_DELIVERED: lost,
        Status.DELIVERED: 1 - hard - soft - lost,
    }
    assert set(np.unique(statuses).tolist()) == {
        status for status, share in shares.items() if share
    }
    for status, share in shares.items():
        drawn = np.count_nonzero(statuses == status) / DRAWS
        assert drawn == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / DRAWS))


def test_latencies_have_the_given_percentiles() -> None:
    _, micros = draw_outcomes(FICKLE, 42, "spring", 1, 0, DRAWS)
    assert micros.dtype == np.int64
    assert (micros > 0).all()
    assert np.percentile(micros, 50) == pytest.approx(800_000, rel=0.02)
    assert np.percentile(micros, 99) == pytest.approx(4_000_000, rel=0.02)


@pytest.mark.parametrize(
    ("median", "p99", "expected"),
    [
        pytest.param(0, 0, {0}, id="none"),
        pytest.param(1_500, 1_500, {1_500}, id="always the same"),
    ],
)
def test_latencies_without_spread(median: int, p99: int, expected: set[int]) -> None:
    latency = LatencyDistribution(
        median=timedelta(microseconds=median), p99=timedelta(microseconds=p99)
    )
    behaviour = GatewayBehaviour(latency=latency, soft_bounce=0.5)
    _, micros = draw_outcomes(behaviour, 42, "spring", 1, 0, 1_000)
    assert set(micros.tolist()) == expected


def test_extreme_latencies_fit_into_64_bits() -> None:
    widest = LatencyDistribution(median=timedelta(microseconds=1), p99=timedelta(days=365))
    _, micros = draw_outcomes(GatewayBehaviour(latency=widest), 42, "spring", 1, 0, DRAWS)
    assert (micros >= 0).all()


def test_latencies_are_independent_of_outcomes() -> None:
    statuses, micros = draw_outcomes(FICKLE, 42, "spring", 1, 0, DRAWS)
    medians = [np.median(micros[statuses == status]) for status in np.unique(statuses)]
    assert medians == pytest.approx([800_000] * 4, rel=0.05)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"seed": 43}, id="seed"),
        pytest.param({"campaign": "summer"}, id="campaign"),
        pytest.param({"attempt": 2}, id="attempt"),
        pytest.param({"first": 1}, id="numbers"),
    ],
)
def test_other_keys_draw_other_outcomes(other: dict[str, Any]) -> None:
    place: dict[str, Any] = {
        "seed": 42,
        "campaign": "spring",
        "attempt": 1,
        "first": 0,
        "count": 1_000,
    }
    one, two = draw_outcomes(FICKLE, **place), draw_outcomes(FICKLE, **(place | other))
    assert not np.array_equal(one[0], two[0])
    assert not np.array_equal(one[1], two[1])


def test_outcomes_do_not_depend_on_the_batch() -> None:
    all_statuses, all_micros = draw_outcomes(FICKLE, 42, "spring", 1, 0, 100)
    for first, count in ((0, 1), (17, 30), (99, 1)):
        statuses, micros = draw_outcomes(FICKLE, 42, "spring", 1, first, count)
        assert np.array_equal(statuses, all_statuses[first : first + count])
        assert np.array_equal(micros, all_micros[first : first + count])


def test_outcomes_of_a_seed_never_change() -> None:
    statuses, micros = draw_outcomes(FICKLE, 42, "diwali-email", 1, 0, 12)
    assert statuses.tolist() == [6, 6, 6, 6, 4, 4, 7, 6, 6, 6, 4, 7]
    expected = (
        *(1_465_791, 552_346, 1_569_565, 677_387, 1_776_152, 5_907_193),
        *(741_565, 703_715, 856_154, 1_307_011, 511_008, 1_173_018),
    )
    # The last digit depends on the logarithm and cosine of the C library.
    assert micros.tolist() == pytest.approx(expected, abs=1)
