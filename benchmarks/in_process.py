"""Candidates and receipts, without Celery: everything runs in this process."""

import gc
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import sqlalchemy as sa

from benchmarks.batches import split_range
from benchmarks.context import CAMPAIGN_ID, DatabaseBenchmark
from benchmarks.databases import (
    AUTHOR,
    IN_GATEWAY,
    READY,
    open_tables,
    record_batch,
    record_scenario,
)
from benchmarks.meter import Cost, order_turn
from benchmarks.results import Measure
from simulator.cli.simulate import DEFAULT_BATCH_SIZE
from simulator.schema import analyze_all_tables
from tracker.clock import to_datetime
from tracker.organizations import CouponSeries
from tracker.queries.next_step import CHECK_STEPS
from tracker.record.catalog import Batch, Campaign, load_campaign
from tracker.record.journal import open_entry
from tracker.record.receipts import Receipt, Receipts, apply_receipts
from tracker.status import Status, Step
from tracker.store.database import Database
from tracker.store.schema.messages import messages, transitions
from workers.candidates import load_candidates
from workers.checks.base import checks_of
from workers.checks.judging import judge_candidates
from workers.runtime import GC_THRESHOLD
from workers.services.base import SqlServices

JUDGING_TO_LOADING = Measure("judging ÷ loading candidates", "≥", 1)
RECEIPTS_TO_MOVES = Measure("receipts ÷ moves", "≥", 0.7)

JUDGING_ROUNDS = 3
RECEIPT_ROUNDS = 5

REQUIREMENTS = ("coupon", "referral", "membership", "last_store", "profile")
"""What the campaign requires, so that every check has data to judge."""

DUPLICATE_SHARE = 0.05
"""Share of the receipts that come twice."""

SCENARIO = """\
name = "receipts"

[[campaigns]]
name = "applied"
channel = "email"
audience = {messages}

[[campaigns]]
name = "floor"
channel = "email"
audience = {{ same_as = "applied" }}
"""


def measure_judging(bench: DatabaseBenchmark, database: Database) -> None:
    """Measure loading and judging the customers of the first campaign; no check blocks any."""
    with database.read() as connection:
        campaign = load_campaign(connection, CAMPAIGN_ID)
    campaign = replace(
        campaign, requires=REQUIREMENTS, coupon_series=CouponSeries(name="any", active=True)
    )
    count = min(bench.sizes.judging, bench.sizes.pipeline)
    costs = [_measure_round(bench, database, campaign, count) for _ in range(1 + JUDGING_ROUNDS)]
    loading, judging = zip(*costs[1:], strict=True)  # the first round warms up
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
    for numbers in split_range(range(count), DEFAULT_BATCH_SIZE):
        for step in CHECK_STEPS:
            with bench.measure("loading candidates", loading):
                gathered = load_candidates(database, campaign, numbers, step, services, now)
            with bench.measure("judging candidates", judging):
                verdicts = judge_candidates(gathered, checks_of(step), to_datetime(now))
            assert not verdicts.blocked, "a check that blocks spares the checks after it"
    gc.unfreeze()
    return Cost.total(loading), Cost.total(judging)


def measure_receipts(bench: DatabaseBenchmark) -> None:
    """Measure receipts for one campaign beside bare moves of another, in interleaved rounds."""
    size = bench.sizes.receipts
    costs: dict[str, list[Cost]] = {"receipts": [], "moves": []}
    with bench.create_database() as url, open_tables(url) as database:
        campaigns = record_scenario(database, bench.folder, SCENARIO.format(messages=size))
        ours, theirs = (
            [
                record_batch(database, campaign, numbers, (READY, IN_GATEWAY))
                for numbers in split_range(range(size), DEFAULT_BATCH_SIZE)
            ]
            for campaign in campaigns
        )
        analyze_all_tables(database)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)  # as in a worker
        rounds = min(RECEIPT_ROUNDS, len(ours))
        for number in range(rounds):
            works = {
                "receipts": [
                    partial(_apply_receipts, database, batch, _make_receipts(batch))
                    for batch in ours[number::rounds]
                ],
                "moves": [
                    partial(_move_batch, database, batch) for batch in theirs[number::rounds]
                ],
            }
            for name in order_turn(works, number):
                with bench.measure(name, costs[name]):
                    for work in works[name]:
                        work()
        gc.unfreeze()
    moves = size // rounds
    receipts = int(moves * (1 + DUPLICATE_SHARE))
    applied = bench.add_throughput("receipts", receipts, costs["receipts"])
    moved = bench.add_throughput("moves", moves, costs["moves"])
    bench.add_line(RECEIPTS_TO_MOVES.compare_rates(applied, moved, detail=f"{size:,}"))


def _numbers(batch: Batch) -> range:
    return range(batch.first, batch.last + 1)


def _make_receipts(batch: Batch) -> Receipts:
    """Return receipts as the simulated gateway does: as columns."""
    now = batch.campaign.clock.now()
    numbers = _numbers(batch)
    return Receipts.of(
        [Receipt(number, 1, Status.DELIVERED, now) for number in numbers],
        [
            Receipt(number, 1, Status.DELIVERED, now, 1)
            for number in numbers[: int(batch.size * DUPLICATE_SHARE)]
        ],
    )


def _apply_receipts(database: Database, batch: Batch, receipts: Sequence[Receipt]) -> None:
    started_at = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=started_at) as written:
        apply_receipts(written, receipts)


def _move_batch(database: Database, batch: Batch) -> None:
    """Move a batch from the gateway to delivered: no step, no tallies, no check of a receipt."""
    campaign, now = batch.campaign.id, batch.campaign.clock.now()
    numbers = _numbers(batch)
    with database.write() as connection:
        connection.execute(
            sa.update(messages)
            .where(
                messages.c.campaign_id == campaign,
                database.in_list(messages.c.number, numbers),
                messages.c.status == IN_GATEWAY.status,
                messages.c.attempt == IN_GATEWAY.attempt,
            )
            .values(status=Status.DELIVERED)
        )
        listed = database.table_from_columns(number=numbers)
        connection.execute(
            sa.insert(transitions).from_select(
                list(transitions.c),
                sa.select(
                    sa.literal(campaign, sa.Integer),
                    sa.literal(int(Status.DELIVERED), sa.Integer),
                    sa.literal(IN_GATEWAY.attempt, sa.Integer),
                    listed.c.number,
                    sa.literal(int(IN_GATEWAY.status), sa.Integer),
                    sa.literal(0, sa.Integer),
                    sa.literal(now, sa.BigInteger),
                    sa.literal(0, sa.Integer),
                ),
            )
        )
