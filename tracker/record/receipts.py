"""Apply receipts: what gateways report of messages, late, twice, or out of order.

A receipt is applied only for the attempt that it names, and only where the transition is legal.
Each other receipt is recorded once, with the reason why it was refused, however often it arrives.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_run_microseconds
from tracker.record.customers.changes import update_bounce_counts
from tracker.record.details import TransitionDetail
from tracker.record.due import DueKind, mark_due
from tracker.record.engagement import count_outcome
from tracker.record.journal import Entry, Move, State
from tracker.record.monitoring.counters import CounterName
from tracker.record.predicates import is_of_message_in
from tracker.record.unconfirmed import update_unconfirmed_batch
from tracker.status import (
    LATE_TRANSITIONS,
    LEGAL_TRANSITIONS,
    SENT_STATUSES,
    ReceiptVerdict,
    Status,
)
from tracker.store.schema.messages import messages, refused_receipts, transitions

OUTCOME_STATUSES = LEGAL_TRANSITIONS[Status.IN_GATEWAY]

SUBMITTABLE_STATUSES = frozenset(
    source for source, targets in LEGAL_TRANSITIONS.items() if Status.IN_GATEWAY in targets
)
"""Statuses of a message that waits for submission."""

MAX_CLOCK_LEAD = timedelta(minutes=5)
"""Real time by which a gateway's clock may be ahead of ours."""

MAX_ATTEMPT = 2**15 - 1

MAX_BIGINT = 2**63 - 1

MAX_BOUNCE_LIMIT = 1_000


class Receipt(NamedTuple):
    """A gateway's report that an attempt at a message ended.

    Attributes:
        status: code of the reported status; it may be anything that the gateway sends.
        at: when the attempt ended, by the gateway's clock.
        copy: distinguishes receipts that are otherwise the same. The same one may arrive often.
        detail: the gateway's explanation, such as an enhanced status code.
    """

    number: int
    attempt: int
    status: int
    at: Instant
    copy: int = 0
    detail: str | None = None


_receipt_order = attrgetter("at", "copy")


def apply_receipts(entry: Entry, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
    """Move the messages of an entry's batch as receipts report, and record refused receipts.

    Returns:
        The receipts that came too early: their attempt isn't recorded yet.
    """
    by_outcome: defaultdict[tuple[int, int], list[Receipt]] = defaultdict(list)
    attempts: set[tuple[int, int]] = set()
    remaining: list[Receipt] = []
    plausible, unknown = _split_by_plausibility(entry, receipts)
    for receipt in sorted(plausible, key=_receipt_order):
        attempt = (receipt.number, receipt.attempt)
        if attempt in attempts:
            remaining.append(receipt)
        else:
            attempts.add(attempt)
            by_outcome[receipt.attempt, receipt.status].append(receipt)
    for group in by_outcome.values():
        remaining += _move_messages(entry, Status.IN_GATEWAY, group)
    if by_outcome:
        update_unconfirmed_batch(entry)
    record_refused_receipts(entry, unknown, ReceiptVerdict.UNKNOWN)
    if remaining:
        remaining = _apply_late_receipts(entry, sorted(remaining, key=_receipt_order))
    if not remaining:
        return ()
    early, refused = _classify_receipts(entry, remaining)
    for verdict, group in refused.items():
        record_refused_receipts(entry, group, verdict)
    return early


def _split_by_plausibility(
    entry: Entry, receipts: Iterable[Receipt]
) -> tuple[list[Receipt], list[Receipt]]:
    """Return the receipts that may be right, and those that can't be."""
    campaign = entry.batch.campaign
    latest = campaign.clock.now() + to_run_microseconds(MAX_CLOCK_LEAD, max(1.0, campaign.speed))
    unknown_before = _read_unknown_receipts(entry)
    plausible: list[Receipt] = []
    unknown: list[Receipt] = []
    for receipt in receipts:
        number, attempt, status, at, _, _ = receipt
        is_plausible = (
            entry.batch.first <= number <= entry.batch.last
            and status in OUTCOME_STATUSES
            and 1 <= attempt <= MAX_ATTEMPT
            and at <= latest
            and (number, attempt, status, at) not in unknown_before
        )
        (plausible if is_plausible else unknown).append(receipt)
    return plausible, unknown


def _read_unknown_receipts(entry: Entry) -> set[tuple[int, int, int, Instant]]:
    """Return (number, attempt, status, at) of receipts refused as unknown, which stay refused."""
    refused = refused_receipts.c
    rows = entry.connection.execute(
        sa.select(refused.number, refused.attempt, refused.status, refused.at).where(
            is_of_message_in(refused_receipts, entry.batch),
            refused.verdict == ReceiptVerdict.UNKNOWN,
        )
    )
    return {(number, attempt, status, at) for number, attempt, status, at in rows}


def _move_messages(entry: Entry, source: Status, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
    """Move messages from a status as their receipts report.

    Args:
        receipts: receipts of one attempt and one status.

    Returns:
        The receipts of messages that aren't in `source`.
    """
    status, attempt = Status(receipts[0].status), receipts[0].attempt
    moved = entry.move(
        Move(
            numbers=[receipt.number for receipt in receipts],
            source=State(status=source, attempt=attempt),
            target=State(status=status, attempt=attempt),
            at=[receipt.at for receipt in receipts],
            details={
                receipt.number: TransitionDetail(text=receipt.detail)
                for receipt in receipts
                if receipt.detail
            },
        )
    )
    if not moved:
        return receipts
    remaining: Sequence[Receipt] = ()
    if len(moved) < len(receipts):
        moved_numbers = set(moved)
        remaining = [receipt for receipt in receipts if receipt.number not in moved_numbers]
        receipts = [receipt for receipt in receipts if receipt.number in moved_numbers]
    update_bounce_counts(entry, status, attempt, moved)
    entry.suppressions.add_outcome(entry.batch.campaign, status, attempt, moved)
    if status in (Status.DELIVERED, Status.HARD_BOUNCED):
        count_outcome(entry, source, status, moved)
    if status is Status.DELIVERED and entry.batch.campaign.tracks_engagement:
        mark_due(entry, DueKind.ENGAGEMENT, min(receipt.at for receipt in receipts))
    return remaining


def _apply_late_receipts(entry: Entry, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Apply receipts that make a late transition, and return the others."""
    remaining = list(receipts)
    for source, target in LATE_TRANSITIONS:
        by_attempt: defaultdict[int, dict[int, Receipt]] = defaultdict(dict)
        others = []
        for receipt in remaining:
            if receipt.status == target and receipt.number not in by_attempt[receipt.attempt]:
                by_attempt[receipt.attempt][receipt.number] = receipt
            else:
                others.append(receipt)
        for group in by_attempt.values():
            if group:
                others += _move_messages(entry, source, list(group.values()))
        remaining = others
    return remaining


def _classify_receipts(
    entry: Entry, receipts: Sequence[Receipt]
) -> tuple[list[Receipt], dict[ReceiptVerdict, list[Receipt]]]:
    """Return the receipts that came too early, and the refused ones by verdict.

    Receipts that were applied before are in neither.
    """
    numbers = sorted({receipt.number for receipt in receipts})
    states = _read_states(entry, numbers)
    recorded_outcomes = _read_recorded_outcomes(entry, numbers)
    early: list[Receipt] = []
    refused: defaultdict[ReceiptVerdict, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        status, attempt = states.get(receipt.number, (None, 0))
        outcome = (receipt.number, receipt.status, receipt.attempt)
        if not receipt.copy and outcome in recorded_outcomes:
            continue  # this receipt made the transition
        if receipt.attempt < attempt:
            refused[ReceiptVerdict.STALE].append(receipt)
        elif receipt.attempt == attempt and status in SENT_STATUSES:
            refused[ReceiptVerdict.DUPLICATE].append(receipt)
        elif receipt.attempt == attempt + 1 and status in SUBMITTABLE_STATUSES:
            early.append(receipt)  # the gateway accepted it, which isn't recorded yet
        else:
            refused[ReceiptVerdict.UNKNOWN].append(receipt)
    return early, refused


def _read_states(entry: Entry, numbers: Sequence[int]) -> dict[int, tuple[Status, int]]:
    rows = entry.connection.execute(
        sa.select(messages.c.number, messages.c.status, messages.c.attempt).where(
            messages.c.campaign_id == entry.batch.campaign.id,
            entry.database.in_list(messages.c.number, numbers),
        )
    )
    return {number: (Status(status), attempt) for number, status, attempt in rows}


def _read_recorded_outcomes(entry: Entry, numbers: Sequence[int]) -> set[tuple[int, int, int]]:
    """Return (number, status, attempt) of the recorded outcomes of some messages."""
    rows = entry.connection.execute(
        sa.select(transitions.c.number, transitions.c.status, transitions.c.attempt).where(
            transitions.c.campaign_id == entry.batch.campaign.id,
            transitions.c.status.in_(OUTCOME_STATUSES),
            transitions.c.attempt.in_(range(1, entry.batch.campaign.attempts + 1)),
            entry.database.in_list(transitions.c.number, numbers),
        )
    )
    return {(number, status, attempt) for number, status, attempt in rows}


def record_refused_receipts(
    entry: Entry, receipts: Sequence[Receipt], verdict: ReceiptVerdict
) -> None:
    """Record receipts that are not applied, and why, each once however often it arrives."""
    if not receipts:
        return
    rows = entry.database.table_from_columns(
        number=[_clamp_to_bigint(receipt.number) for receipt in receipts],
        attempt=[_clamp_to_bigint(receipt.attempt) for receipt in receipts],
        status=[_clamp_to_bigint(receipt.status) for receipt in receipts],
        at=[_clamp_to_bigint(receipt.at) for receipt in receipts],
        copy=[_clamp_to_bigint(receipt.copy) for receipt in receipts],
    )
    query = sa.select(
        sa.literal(entry.batch.campaign.id, sa.Integer), *rows.c, sa.literal(verdict, sa.String)
    )
    columns = ["campaign_id", *rows.c.keys(), "verdict"]
    insert = entry.database.insert_missing_from(refused_receipts, columns, query)
    count = entry.connection.execute(insert).rowcount
    entry.counters.add(CounterName.REFUSED_RECEIPTS, verdict, count)


def _clamp_to_bigint(number: int) -> int:
    """Return the nearest number that the database can hold; a receipt may contain any."""
    return max(-MAX_BIGINT, min(number, MAX_BIGINT))


def count_refused_receipts(
    connection: Connection, campaign_ids: Sequence[int]
) -> Mapping[int, Counter[ReceiptVerdict]]:
    """Return the number of refused receipts by campaign id and verdict."""
    counts: dict[int, Counter[ReceiptVerdict]] = {
        campaign_id: Counter() for campaign_id in campaign_ids
    }
    query = (
        sa.select(refused_receipts.c.campaign_id, refused_receipts.c.verdict, sa.func.count())
        .where(refused_receipts.c.campaign_id.in_(campaign_ids))
        .group_by(refused_receipts.c.campaign_id, refused_receipts.c.verdict)
    )
    for campaign_id, verdict, count in connection.execute(query):
        counts[campaign_id][ReceiptVerdict(verdict)] = count
    return counts
