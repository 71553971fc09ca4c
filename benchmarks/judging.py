"""Judging with all checks, beside a loop that only loads the same candidates: one process."""

import gc
import time
from contextlib import closing
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.reports import CAMPAIGN_ID
from tracker.clock import to_datetime
from tracker.record import catalog
from tracker.record.catalog import Campaign, CouponSeries
from tracker.store.database import Database, connect
from workers.candidates import load_candidates
from workers.checks.base import CHECK_STEPS, checks_of, judge_candidates
from workers.services.base import SqlServices

ROUND_COUNT = 3

BATCH_SIZE = 10_000
"""Candidates at a time: a batch."""

DEMANDING_REQUIREMENTS = ("coupon", "referral", "membership", "last_store", "profile")
"""What the campaign requires, so that every check has something to look at."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Candidates a second through both steps that judge: loaded, and judged once they are there."""

    candidates: int
    loaded: float
    judged: float


def time_judging(url: str, candidates: int) -> Timed:
    """Load and judge the customers of the first campaign, nobody of whom is stopped."""
    with closing(connect(url)) as database:
        with database.read() as connection:
            campaign = catalog.load_campaign(connection, CAMPAIGN_ID)
        demanding = replace(
            campaign,
            requires=DEMANDING_REQUIREMENTS,
            coupon_series=CouponSeries(name="any", active=True),
        )
        times = [_time_round(database, demanding, candidates) for _ in range(1 + ROUND_COUNT)][1:]
    return Timed(
        candidates=candidates,
        loaded=candidates / median(loading for loading, _ in times),
        judged=candidates / median(judging for _, judging in times),
    )


def _time_round(database: Database, campaign: Campaign, candidates: int) -> tuple[float, float]:
    loading = judging = 0.0
    services, now = SqlServices("", database), campaign.clock.now()
    gc.collect()
    gc.freeze()
    for first in range(0, candidates, BATCH_SIZE):
        numbers = range(first, min(first + BATCH_SIZE, candidates))
        for step in CHECK_STEPS:
            began = time.perf_counter()
            gathered = load_candidates(database, campaign, numbers, step, services, now)
            loaded = time.perf_counter()
            verdicts = judge_candidates(gathered, checks_of(step), to_datetime(now))
            judging += time.perf_counter() - loaded
            loading += loaded - began
            assert not verdicts.blocked, "nothing is wrong with anybody, so every check is asked"
    gc.unfreeze()
    return loading, judging
