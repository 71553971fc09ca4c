"""Draws: the same for the same key, and independent for different keys."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.draws import DRAWS_PER_MESSAGE, DrawPurpose, draw_uniforms, uniforms_to_normals

LARGEST_SEED = 2**63 - 1

GOLDEN = [
    pytest.param(
        (42, "diwali-email", DrawPurpose.OUTCOME, 0, 1),
        [0.8365048428749302, 0.3929432253354913, 0.9199086331883568, 0.9080633131246391],
        id="first message",
    ),
    pytest.param(
        (42, "diwali-email", DrawPurpose.OUTCOME, 1_000_000, 2),
        [0.27133368711800543, 0.6637551335143619, 0.17295061334728756, 0.41773269457081974],
        id="millionth message, second attempt",
    ),
    pytest.param(
        (0, "a", DrawPurpose.DEFECT, 7, 0),
        [0.8293186374572104, 0.9472546128018371, 0.8489352601983384, 0.30717250121994444],
        id="no seed",
    ),
    pytest.param(
        (LARGEST_SEED, "Grüße", DrawPurpose.DEFECT, 0, 0),
        [0.6301081439056319, 0.11947100968529689, 0.09738196670863453, 0.7737774265120797],
        id="largest seed",
    ),
]


@pytest.mark.parametrize(("key", "expected"), GOLDEN)
def test_draws_never_change(
    key: tuple[int, str, DrawPurpose, int, int], expected: list[float]
) -> None:
    seed, campaign, purpose, number, attempt = key
    drawn = draw_uniforms(seed, campaign, purpose, number, 1, attempt)
    assert drawn.tolist() == [expected]


seeds = st.integers(0, LARGEST_SEED)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
purposes = st.sampled_from(DrawPurpose)
attempts = st.integers(0, 100)


@given(seeds, names, purposes, attempts, st.integers(0, 10**8), st.integers(0, 50))
def test_draws_are_four_per_message_from_0_to_below_1(
    seed: int, campaign: str, purpose: DrawPurpose, attempt: int, first: int, count: int
) -> None:
    drawn = draw_uniforms(seed, campaign, purpose, first, count, attempt)
    assert drawn.shape == (count, DRAWS_PER_MESSAGE)
    assert drawn.dtype == np.float64
    assert ((drawn >= 0) & (drawn < 1)).all()


@given(
    seeds,
    names,
    st.integers(0, 10**8),
    st.lists(st.integers(1, 20), min_size=1, max_size=8),
)
def test_draws_do_not_depend_on_the_batch(
    seed: int, campaign: str, first: int, sizes: list[int]
) -> None:
    whole = draw_uniforms(seed, campaign, DrawPurpose.OUTCOME, first, sum(sizes), 1)
    starts = np.cumsum([first, *sizes[:-1]]).tolist()
    batches = [
        draw_uniforms(seed, campaign, DrawPurpose.OUTCOME, start, size, 1)
        for start, size in zip(starts, sizes, strict=True)
    ]
    singles = [
        draw_uniforms(seed, campaign, DrawPurpose.OUTCOME, number, 1, 1)
        for number in range(first, first + sum(sizes))
    ]
    assert np.array_equal(np.concatenate(batches), whole)
    assert np.array_equal(np.concatenate(singles), whole)


@pytest.mark.parametrize(
    ("seed", "campaign", "purpose", "attempt"),
    [
        pytest.param(8, "spring", DrawPurpose.OUTCOME, 1, id="seed"),
        pytest.param(7 + 2**32, "spring", DrawPurpose.OUTCOME, 1, id="seed beyond 32 bits"),
        pytest.param(LARGEST_SEED, "spring", DrawPurpose.OUTCOME, 1, id="largest seed"),
        pytest.param(7, "spring2", DrawPurpose.OUTCOME, 1, id="campaign"),
        pytest.param(7, "spring", DrawPurpose.DEFECT, 1, id="purpose"),
        pytest.param(7, "spring", DrawPurpose.OUTCOME, 2, id="attempt"),
        pytest.param(7, "spring", DrawPurpose.OUTCOME, 11, id="attempt that begins alike"),
    ],
)
def test_other_keys_draw_independently(
    seed: int, campaign: str, purpose: DrawPurpose, attempt: int
) -> None:
    count = 5_000
    drawn = draw_uniforms(7, "spring", DrawPurpose.OUTCOME, 0, count, 1)[:, 0]
    other = draw_uniforms(seed, campaign, purpose, 0, count, attempt)[:, 0]
    assert not np.isin(other, drawn).any(), "no stream is part of another"
    correlation = np.corrcoef(drawn, other)[0, 1]
    assert abs(correlation) < 4 / np.sqrt(count)


def test_neighbouring_seeds_and_messages_draw_different_numbers() -> None:
    largest = draw_uniforms(LARGEST_SEED, "spring", DrawPurpose.OUTCOME, 0, 100)
    assert not np.isin(
        largest, draw_uniforms(LARGEST_SEED - 1, "spring", DrawPurpose.OUTCOME, 0, 100)
    ).any()
    drawn = draw_uniforms(7, "spring", DrawPurpose.OUTCOME, 0, 5_000)
    assert len(np.unique(drawn)) == drawn.size


def test_draws_are_uniform() -> None:
    count = 100_000
    for place in range(DRAWS_PER_MESSAGE):
        drawn = draw_uniforms(7, "spring", DrawPurpose.OUTCOME, 0, count)[:, place]
        shares = np.histogram(drawn, bins=10, range=(0, 1))[0] / count
        assert shares == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / count))


def test_normals_are_standard_normal() -> None:
    count = 200_000
    drawn = draw_uniforms(7, "spring", DrawPurpose.OUTCOME, 0, count)
    normal = uniforms_to_normals(drawn[:, 1], drawn[:, 2])
    assert normal.mean() == pytest.approx(0, abs=4 / np.sqrt(count))
    assert normal.var() == pytest.approx(1, abs=4 * np.sqrt(2 / count))
    for share in (0.01, 0.16, 0.5, 0.84, 0.99):
        below = float((normal < NormalDist().inv_cdf(share)).mean())
        assert below == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / count))


def test_normals_are_finite_at_the_ends_of_the_interval() -> None:
    ends = np.array([0.0, 1 - 2.0**-53])
    assert np.isfinite(uniforms_to_normals(ends, ends)).all()
    assert np.isfinite(uniforms_to_normals(ends, ends[::-1])).all()
