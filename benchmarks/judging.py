"""All checks of both steps, beside a loop that only loads the same candidates: one process."""

import gc
from dataclasses import replace

from benchmarks.context import CAMPAIGN_ID, DatabaseBenchmark
from benchmarks.meter import Cost
from benchmarks.results import Measure
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from tracker.clock import to_datetime
from tracker.organizations import CouponSeries
from tracker.queries.next_step import CHECK_STEPS
from tracker.record.catalog import Campaign, load_campaign
from tracker.store.database import Database
from workers.candidates import load_candidates
from workers.checks.base import checks_of
from workers.checks.judging import judge_candidates
from workers.services.base import SqlServices

JUDGING_TO_LOADING = Measure("judging ÷ loading candidates", "≥", 1)

ROUNDS = 3

REQUIREMENTS = ("coupon", "referral", "membership", "last_store", "profile")
"""What the campaign requires, so that every check has data to judge."""


def measure_judging(bench: DatabaseBenchmark, database: Database) -> None:
    """Measure loading and judging the customers of the first campaign; no check blocks any."""
    with database.read() as connection:
        campaign = load_campaign(connection, CAMPAIGN_ID)
    campaign = replace(
        campaign, requires=REQUIREMENTS, coupon_series=CouponSeries(name="any", active=True)
    )
    count = min(bench.sizes.judging, bench.sizes.pipeline)
    costs = [_measure_round(bench, database, campaign, count) for _ in range(1 + ROUNDS)][1:]
    loading, judging = zip(*costs, strict=True)
    loaded = bench.add_throughput("loading candidates", count, loading)
    judged = bench.add_throughput("judging candidates", count, judging)
    bench.add_line(JUDGING_TO_LOADING.compare_rates(judged, loaded))


def _measure_round(
    bench: DatabaseBenchmark, database: Database, campaign: Campaign, count: int
) -> tuple[Cost, Cost]:
    """Return the costs of loading and of judging candidates."""
    loading: list[Cost] = []
    judging: list[Cost] = []
    services, now = SqlServices("", database), campaign.clock.now()
    gc.collect()
    gc.freeze()
    for first in range(0, count, DEFAULT_BATCH_SIZE):
        numbers = range(first, min(first + DEFAULT_BATCH_SIZE, count))
        for step in CHECK_STEPS:
            with bench.measure("loading candidates", loading):
                gathered = load_candidates(database, campaign, numbers, step, services, now)
            with bench.measure("judging candidates", judging):
                verdicts = judge_candidates(gathered, checks_of(step), to_datetime(now))
            assert not verdicts.blocked, "a check that blocks spares the checks after it"
    gc.unfreeze()
    return Cost.total(loading), Cost.total(judging)
