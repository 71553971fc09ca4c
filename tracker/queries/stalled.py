"""Batches that stand still: work is left, nobody is at it, and they wait for nothing.

What is looked at are tallies and batches, never messages. It may be wrong about a batch that is
only slow: whoever sends it on again does no harm.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_real_seconds, to_run_microseconds
from tracker.record.catalog import Campaign, load_campaigns
from tracker.status import Status, Step, is_settled
from tracker.store.schema import (
    batches,
    campaigns,
    parts,
    recoveries,
    reports,
    runs,
    tallies,
    transitions,
)

STALLED_AFTER = timedelta(minutes=2)
"""Real time for which a batch may be left alone: a task may take that long, or be put off by half
of it."""

MAX_CAMPAIGNS = 100
"""The latest campaigns that are not finished: runs that were broken off stay among them."""

MAX_BATCHES_PER_CAMPAIGN = 10_000
"""Batches of a campaign that are looked at."""

STEP_BY_STATUS = {Status.QUEUED: Step.SUPPRESS, Status.ABOUT_TO_BE_SENT: Step.SUBMIT}
"""What a batch needs that has messages on the way to the gateway."""

STEPS_BEFORE_GATEWAY = (Step.SUPPRESS, Step.VALIDATE, Step.DISPATCH)
"""What is done to queued messages, in this order."""

STATUS_BY_STAGE = {
    "queued": Status.QUEUED,
    "about_to_be_sent": Status.ABOUT_TO_BE_SENT,
    "gateway": Status.IN_GATEWAY,
}
"""Where messages wait, by the stage."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A batch that stands still ``since`` an instant of its campaign's time, for so many real
    ``seconds``. ``waiting`` counts its messages that need work; ``step`` is what it needs.
    ``touched_at`` is when a step last changed it, ``sent_on`` how often it was sent on since."""

    campaign: Campaign
    batch: int
    since: Instant
    touched_at: Instant
    seconds: float
    waiting: Mapping[Status, int]
    step: Step
    sent_on: int = 0


def find_unfinished_campaigns(connection: Connection, most: int = MAX_CAMPAIGNS) -> list[Campaign]:
    """The latest campaigns of which more may come: those of runs that have neither finished nor
    been given up, and those of which a gateway has reported something that is not applied yet."""
    reported = sa.select(reports.c.campaign_id).distinct()
    query = (
        sa.select(campaigns.c.id)
        .join(runs, runs.c.id == campaigns.c.run_id)
        .where(
            sa.or_(
                sa.and_(runs.c.finished_at.is_(None), runs.c.given_up_at.is_(None)),
                campaigns.c.id.in_(reported),
            )
        )
        .order_by(campaigns.c.id.desc())
        .limit(most)
    )
    return load_campaigns(connection, connection.scalars(query).all())


def find_stalled_batches(
    connection: Connection, known: Sequence[Campaign], patience: timedelta = STALLED_AFTER
) -> list[Standing]:
    """The batches of some campaigns that have stood still for longer than ``patience``, without
    those that may just wait in a queue."""
    found = []
    for campaign in known:
        idle = find_idle_batches(connection, [campaign], patience)
        if idle:
            found += _exclude_waiting_in_queue(connection, campaign, idle, patience)
    return found


def find_idle_batches(
    connection: Connection, known: Sequence[Campaign], patience: timedelta
) -> list[Standing]:
    """The batches of some campaigns that no step has changed for longer than ``patience``, though
    they need one and wait for nothing. They may wait in a queue: the record can't tell."""
    return [
        each for campaign in known for each in _find_idle_batches_of(connection, campaign, patience)
    ]


def _idle_cutoff(campaign: Campaign, patience: timedelta) -> Instant:
    return campaign.clock.now() - to_run_microseconds(patience, campaign.speed)


def _find_idle_batches_of(
    connection: Connection, campaign: Campaign, patience: timedelta
) -> list[Standing]:
    latest = _idle_cutoff(campaign, patience)
    rows = _read_untouched_batches(connection, campaign, latest)
    if not rows:
        return []
    held = _count_pending_messages(connection, campaign, [row.batch for row in rows])
    sent_on = _read_requeue_counts(connection, campaign)
    in_parts = _read_bisected_steps(connection, campaign)
    now = campaign.clock.now()
    found = []
    for row in rows:
        waiting = held[row.batch]
        needed = _needed_step(row, waiting, in_parts[row.batch], campaign, latest)
        if needed is not None:
            step, since = needed
            found.append(
                Standing(
                    campaign=campaign,
                    batch=row.batch,
                    since=since,
                    touched_at=row.touched_at,
                    seconds=to_real_seconds(now - since, campaign.speed),
                    waiting=waiting,
                    step=step,
                    sent_on=sent_on.get((row.batch, row.touched_at), 0),
                )
            )
    return found


def _read_requeue_counts(
    connection: Connection, campaign: Campaign
) -> dict[tuple[int, Instant], int]:
    """How often batches were sent on, by the batch and when it had been touched last."""
    query = sa.select(recoveries.c.batch, recoveries.c.touched_at, recoveries.c.times).where(
        recoveries.c.campaign_id == campaign.id
    )
    return {(batch, at): times for batch, at, times in connection.execute(query)}


def _exclude_waiting_in_queue(
    connection: Connection, campaign: Campaign, idle: Sequence[Standing], patience: timedelta
) -> list[Standing]:
    """A queue is first in, first out: who waits in one that moves has to be overtaken to stand."""
    if not _has_step_since(connection, campaign, _idle_cutoff(campaign, patience)):
        return list(idle)
    last = {
        step: _find_last_batch_without(connection, campaign, status)
        for status, step in STEP_BY_STATUS.items()
    }
    queued = {step: status for status, step in STEP_BY_STATUS.items()}

    def is_in_line(each: Standing) -> bool:
        if queued.get(each.step) not in each.waiting:
            return False  # what bounced, or has receipts to come, comes back at a time of its own
        overtaker = last[each.step]
        overtaken = overtaker is not None and overtaker >= each.batch
        return not overtaken or campaign.gateway_rate is not None

    return [each for each in idle if not is_in_line(each)]


def read_last_requeue_time(connection: Connection) -> Instant | None:
    """When a batch was last sent on; real time."""
    last: Instant | None = connection.scalar(sa.select(sa.func.max(recoveries.c.sent_at)))
    return last


def _read_untouched_batches(
    connection: Connection, campaign: Campaign, latest: Instant
) -> Sequence[sa.Row[Any]]:
    """Batches that no step has changed since ``latest``, as far as work may be left in them."""
    at_work = (
        sa.exists()
        .where(
            tallies.c.campaign_id == batches.c.campaign_id,
            tallies.c.batch == batches.c.batch,
            tallies.c.messages > 0,
            sa.or_(
                tallies.c.status.in_([*STEP_BY_STATUS]),
                sa.and_(
                    tallies.c.status == Status.SOFT_BOUNCED, tallies.c.attempt < campaign.attempts
                ),
            ),
        )
        .correlate(batches)
    )
    due = [batches.c.receipts_due_at, batches.c.engagement_due_at]
    query = (
        sa.select(batches.c.batch, batches.c.touched_at, *due)
        .where(
            batches.c.campaign_id == campaign.id,
            batches.c.touched_at < latest,
            sa.or_(at_work, *(each < latest for each in due)),
        )
        .order_by(batches.c.batch)
        .limit(MAX_BATCHES_PER_CAMPAIGN)
    )
    return connection.execute(query).all()


def _count_pending_messages(
    connection: Connection, campaign: Campaign, those: Sequence[int]
) -> Mapping[int, Counter[Status]]:
    """How many messages of each batch need work, by status."""
    found: defaultdict[int, Counter[Status]] = defaultdict(Counter)
    query = sa.select(
        tallies.c.batch, tallies.c.status, tallies.c.attempt, tallies.c.messages
    ).where(
        tallies.c.campaign_id == campaign.id,
        tallies.c.batch.between(min(those), max(those)),
        tallies.c.messages > 0,
    )
    for batch, code, attempt, count in connection.execute(query):
        status = Status(code)
        if not is_settled(status, attempt, campaign.attempts):
            found[batch][status] += count
    return found


def _needed_step(
    row: sa.Row[Any],
    waiting: Mapping[Status, int],
    in_parts: Collection[Step],
    campaign: Campaign,
    latest: Instant,
) -> tuple[Step, Instant] | None:
    """What a batch needs, and since when; None if it waits for something. Where a step was begun
    on parts of it, that one comes first."""
    touched_at, receipts_due_at = row.touched_at, row.receipts_due_at
    engagement_due_at = row.engagement_due_at
    candidates = [
        (step, touched_at) for status, step in STEP_BY_STATUS.items() if status in waiting
    ]
    if Status.QUEUED in waiting:
        begun = [(step, touched_at) for step in STEPS_BEFORE_GATEWAY if step in in_parts]
        candidates = begun[:1] + candidates
    if Status.SOFT_BOUNCED in waiting:
        candidates.append((Step.SUBMIT, touched_at + campaign.retry_after))
    if receipts_due_at is not None:
        candidates.append((Step.DELIVER, max(touched_at, receipts_due_at)))
    if engagement_due_at is not None:
        candidates.append((Step.ENGAGE, max(touched_at, engagement_due_at)))
    return next((each for each in candidates if each[1] < latest), None)


def _read_bisected_steps(connection: Connection, campaign: Campaign) -> Mapping[int, set[Step]]:
    """The steps that are not done yet on all of the batches that were taken apart for them."""
    found: defaultdict[int, set[Step]] = defaultdict(set)
    query = sa.select(parts.c.batch, parts.c.step).where(
        parts.c.campaign_id == campaign.id, parts.c.ended_at.is_(None)
    )
    for batch, step in connection.execute(query):
        found[batch].add(Step(step))
    return found


def _has_step_since(connection: Connection, campaign: Campaign, latest: Instant) -> bool:
    there = sa.exists().where(batches.c.campaign_id == campaign.id, batches.c.touched_at >= latest)
    return bool(connection.scalar(sa.select(there)))


def _find_last_batch_without(
    connection: Connection, campaign: Campaign, status: Status
) -> int | None:
    """The last batch of a campaign that has no message in a status (any more)."""
    held = (
        sa.exists()
        .where(
            tallies.c.campaign_id == batches.c.campaign_id,
            tallies.c.batch == batches.c.batch,
            tallies.c.status == status,
            tallies.c.messages > 0,
        )
        .correlate(batches)
    )
    query = (
        sa.select(batches.c.batch)
        .where(batches.c.campaign_id == campaign.id, ~held)
        .order_by(batches.c.batch.desc())
        .limit(1)
    )
    last: int | None = connection.scalar(query)
    return last


def read_oldest_message_ages(connection: Connection, known: Sequence[Campaign]) -> dict[str, float]:
    """For how many real seconds the first message of some campaigns has been in each stage; stages
    without messages are left out. It is the first of the first batch that has any there: it may
    have left while others of its batch stay."""
    found: dict[str, float] = {}
    for campaign in known:
        for stage, status in STATUS_BY_STAGE.items():
            since = _read_oldest_arrival(connection, campaign, status)
            if since is not None:
                age = campaign.clock.now() - since
                seconds = max(0.0, to_real_seconds(age, campaign.speed))
                found[stage] = max(found.get(stage, 0.0), seconds)
    return found


def _read_oldest_arrival(
    connection: Connection, campaign: Campaign, status: Status
) -> Instant | None:
    first = connection.execute(
        sa.select(batches.c.first, batches.c.size, tallies.c.attempt)
        .join(
            batches,
            sa.and_(
                batches.c.campaign_id == tallies.c.campaign_id, batches.c.batch == tallies.c.batch
            ),
        )
        .where(
            tallies.c.campaign_id == campaign.id,
            tallies.c.status == status,
            tallies.c.messages > 0,
        )
        .order_by(tallies.c.batch)
        .limit(1)
    ).one_or_none()
    if first is None:
        return None
    since: Instant | None = connection.scalar(
        sa.select(sa.func.min(transitions.c.at)).where(
            transitions.c.campaign_id == campaign.id,
            transitions.c.status == status,
            transitions.c.attempt == first.attempt,
            transitions.c.number.between(first.first, first.first + first.size - 1),
        )
    )
    return since
