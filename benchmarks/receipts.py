"""Receipts applied, beside the compare-and-set that any record of outcomes needs: one process.

The floor moves the same messages, and writes the same transitions, a batch a transaction: no step,
no tallies, no look at what a receipt says.
"""

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from simulator.scenario.file import load_scenario
from simulator.schema import open_database
from simulator.setup.record import record_run
from tracker.record import receipts
from tracker.record.catalog import Batch, Campaign
from tracker.record.journal import QUEUED_STATE, Author, Move, State, enqueue_batch, open_entry
from tracker.record.receipts import Receipt
from tracker.settings import load_settings
from tracker.status import Status, Step
from tracker.store.database import Database
from tracker.store.schema.messages import messages, transitions
from workers.runtime import GC_THRESHOLD

BATCH_SIZE = 10_000
"""Messages at a time: a batch."""

DUPLICATE_SHARE = 0.05
"""Share of the receipts that come twice."""

AUTHOR = Author(worker="benchmark")

READY = State(status=Status.ABOUT_TO_BE_SENT)
IN_GATEWAY = State(status=Status.IN_GATEWAY, attempt=1)
DELIVERED = State(status=Status.DELIVERED, attempt=1)

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


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Receipts a second, and messages a second that were only moved."""

    messages: int
    applied: float
    floor: float


def time_receipts(url: str, folder: Path, size: int) -> Timed:
    """Have ``size`` messages of a campaign delivered, and as many of another: in turns."""
    scenario = folder / "receipts.toml"
    scenario.write_text(SCENARIO.format(messages=size))
    with closing(open_database(load_settings(database_url=url))) as database:
        run = record_run(database, load_scenario(scenario), folder, lambda _: None)
        ours, theirs = ([*_submit_batches(database, each.campaign, size)] for each in run.campaigns)
        database.analyze()
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)  # as in a worker
        applied = floor = 0.0
        for one, other in zip(ours, theirs, strict=True):
            floor += _time_call(_move_messages, database, other)
            applied += _time_call(_apply_receipts, database, one, _make_receipts(one))
    said = size + int(size * DUPLICATE_SHARE)
    return Timed(messages=size, applied=said / applied, floor=size / floor)


def _submit_batches(database: Database, campaign: Campaign, size: int) -> Sequence[Batch]:
    """Batches whose messages are all in the gateway."""
    made = []
    for place, first in enumerate(range(0, size, BATCH_SIZE)):
        count = min(BATCH_SIZE, size - first)
        batch = enqueue_batch(
            database, campaign, batch=place, first=first, size=count, author=AUTHOR
        )
        now = campaign.clock.now()
        with open_entry(database, batch, Step.SUBMIT, AUTHOR, started_at=now) as written:
            for source, target in ((QUEUED_STATE, READY), (READY, IN_GATEWAY)):
                numbers = range(first, first + count)
                written.move(Move(numbers=numbers, source=source, target=target, at=now))
        made.append(batch)
    return made


def _make_receipts(batch: Batch) -> list[Receipt]:
    now = batch.campaign.clock.now()
    numbers = range(batch.first, batch.last + 1)
    twice = numbers[: int(batch.size * DUPLICATE_SHARE)]
    return [
        *(Receipt(number, 1, Status.DELIVERED, now) for number in numbers),
        *(Receipt(number, 1, Status.DELIVERED, now, 1) for number in twice),
    ]


def _time_call(work: Callable[..., None], *arguments: object) -> float:
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


def _apply_receipts(database: Database, batch: Batch, said: Sequence[Receipt]) -> None:
    started_at = batch.campaign.clock.now()
    with open_entry(database, batch, Step.DELIVER, AUTHOR, started_at=started_at) as written:
        receipts.apply_receipts(written, said)


def _move_messages(database: Database, batch: Batch) -> None:
    campaign, now = batch.campaign.id, batch.campaign.clock.now()
    numbers = range(batch.first, batch.last + 1)
    with database.write() as connection:
        connection.execute(
            sa.update(messages)
            .where(
                messages.c.campaign_id == campaign,
                database.in_list(messages.c.number, numbers),
                messages.c.status == IN_GATEWAY.status,
                messages.c.attempt == IN_GATEWAY.attempt,
            )
            .values(status=DELIVERED.status)
        )
        listed = database.table_from_columns(number=numbers)
        values = (campaign, DELIVERED.status, 1)
        connection.execute(
            sa.insert(transitions).from_select(
                list(transitions.c),
                sa.select(
                    *(sa.literal(int(value), sa.Integer) for value in values),
                    listed.c.number,
                    sa.literal(int(IN_GATEWAY.status), sa.Integer),
                    sa.literal(0, sa.Integer),
                    sa.literal(now, sa.BigInteger),
                    sa.literal(0, sa.Integer),
                ),
            )
        )
