"""Receipts: what gateways say became of messages, as it really comes: late, twice, out of order.

A receipt counts only for the attempt that it names, and only where the change is legal. All others
are put down with the reason why they do not count, each once, however often it is seen.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from operator import itemgetter
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import Instant, to_run_microseconds
from tracker.record import due
from tracker.record.due import DueKind
from tracker.record.journal import Entry, Move, State
from tracker.status import (
    LATE_TRANSITIONS,
    LEGAL_TRANSITIONS,
    SENT_STATUSES,
    ReceiptVerdict,
    Status,
)
from tracker.store.schema.catalog import customers
from tracker.store.schema.messages import (
    messages,
    refused_receipts,
    transition_details,
    transitions,
)

OUTCOME_STATUSES = LEGAL_TRANSITIONS[Status.IN_GATEWAY]
"""What may become of an attempt."""

SUBMITTABLE_STATUSES = frozenset(
    source for source, targets in LEGAL_TRANSITIONS.items() if Status.IN_GATEWAY in targets
)
"""Statuses of a message that waits to be handed over."""

MAX_CLOCK_LEAD = timedelta(minutes=5)
"""How far a gateway's clock may be ahead of ours, in real time."""

MAX_ATTEMPT = 2**15 - 1
"""The largest number of an attempt that the record can hold."""

MAX_BIGINT = 2**63 - 1

MAX_DETAIL_LENGTH = 500
"""Characters that are kept of what else was said."""


class Receipt(NamedTuple):
    """What a gateway says of a message: at ``at``, its attempt ended with ``status``.

    ``copy`` tells notices apart that say the same; the same one may be seen any number of times.
    ``detail`` is what else was said, such as an enhanced status code.
    """

    number: int
    attempt: int
    status: int
    at: Instant
    copy: int = 0
    detail: str | None = None


def apply_receipts(written: Entry, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
    """Move the messages of an entry's batch as far as ``receipts`` count, and put down the rest.

    Returns those that came too early: of an attempt that is not on record yet.
    """
    campaign = written.batch.campaign
    latest = campaign.clock.now() + to_run_microseconds(MAX_CLOCK_LEAD, max(1.0, campaign.speed))
    nonsensical = _read_unknown_receipts(written)
    first, last = written.batch.first, written.batch.last
    groups: defaultdict[tuple[int, int], list[Receipt]] = defaultdict(list)
    seen: set[tuple[int, int]] = set()
    left: list[Receipt] = []
    nonsense: list[Receipt] = []
    for receipt in sorted(receipts, key=_receipt_order):
        number, attempt, status, at, _, _ = receipt
        if not (
            first <= number <= last
            and status in OUTCOME_STATUSES
            and 1 <= attempt <= MAX_ATTEMPT
            and at <= latest
            and (number, attempt, status, at) not in nonsensical
        ):
            nonsense.append(receipt)
        elif (number, attempt) in seen:
            left.append(receipt)
        else:
            seen.add((number, attempt))
            groups[attempt, status].append(receipt)
    for group in groups.values():
        left += _move_messages(written, Status.IN_GATEWAY, group)
    _record_refused_receipts(written, nonsense, ReceiptVerdict.UNKNOWN)
    if left:
        left = _apply_late_receipts(written, sorted(left, key=_receipt_order))
    if not left:
        return ()
    early, refused = _classify_receipts(written, left)
    for verdict, those in refused.items():
        _record_refused_receipts(written, those, verdict)
    return early


def record_unknown_receipts(written: Entry, receipts: Sequence[Receipt]) -> None:
    """Put down receipts as of nothing that we know."""
    _record_refused_receipts(written, receipts, ReceiptVerdict.UNKNOWN)


def _read_unknown_receipts(written: Entry) -> set[tuple[int, int, int, Instant]]:
    """What was refused as unknown stays refused, though its time may have come."""
    rows = written.connection.execute(
        sa.select(
            *(refused_receipts.c[each] for each in ("number", "attempt", "status", "at"))
        ).where(
            refused_receipts.c.campaign_id == written.batch.campaign.id,
            refused_receipts.c.number.between(written.batch.first, written.batch.last),
            refused_receipts.c.verdict == ReceiptVerdict.UNKNOWN,
        )
    )
    return {(number, attempt, status, at) for number, attempt, status, at in rows}


_receipt_order = itemgetter(Receipt._fields.index("at"), Receipt._fields.index("copy"))


def _move_messages(
    written: Entry, source: Status, receipts: Sequence[Receipt]
) -> Sequence[Receipt]:
    """Move messages from ``source`` as their receipts say, which agree on attempt and status.

    Returns the receipts of those that are not there.
    """
    status, attempt = Status(receipts[0].status), receipts[0].attempt
    moved = written.move(
        Move(
            numbers=[receipt.number for receipt in receipts],
            source=State(status=source, attempt=attempt),
            target=State(status=status, attempt=attempt),
            at=[receipt.at for receipt in receipts],
        )
    )
    if not moved:
        return receipts
    left: Sequence[Receipt] = ()
    if len(moved) < len(receipts):
        there = set(moved)
        left = [receipt for receipt in receipts if receipt.number not in there]
        receipts = [receipt for receipt in receipts if receipt.number in there]
    update_bounce_counts(written, status, attempt, moved)
    _record_details(written, receipts)
    if status is Status.DELIVERED and written.batch.campaign.tracks_engagement:
        due.mark_due(written, DueKind.ENGAGEMENT, min(each.at for each in receipts))
    return left


def _record_details(written: Entry, receipts: Iterable[Receipt]) -> None:
    said = [
        {
            "campaign_id": written.batch.campaign.id,
            "number": receipt.number,
            "attempt": receipt.attempt,
            "status": receipt.status,
            "detail": receipt.detail.replace("\0", "")[:MAX_DETAIL_LENGTH],
        }
        for receipt in receipts
        if receipt.detail
    ]
    if said:
        written.connection.execute(sa.insert(transition_details), said)


def _apply_late_receipts(written: Entry, receipts: Sequence[Receipt]) -> list[Receipt]:
    """Make the changes that nobody waits for; the receipts that bring none about."""
    left = list(receipts)
    for source, target in LATE_TRANSITIONS:
        groups: defaultdict[int, dict[int, Receipt]] = defaultdict(dict)
        rest = []
        for receipt in left:
            if receipt.status == target and receipt.number not in groups[receipt.attempt]:
                groups[receipt.attempt][receipt.number] = receipt
            else:
                rest.append(receipt)
        for group in groups.values():
            if group:
                rest += _move_messages(written, source, list(group.values()))
        left = rest
    return left


def _classify_receipts(
    written: Entry, receipts: Sequence[Receipt]
) -> tuple[list[Receipt], dict[ReceiptVerdict, list[Receipt]]]:
    """Receipts that come too early, and why others did not count. Those that were seen before are
    left out."""
    numbers = sorted({receipt.number for receipt in receipts})
    states = _read_states(written, numbers)
    recorded = _read_recorded_outcomes(written, numbers)
    early: list[Receipt] = []
    refused: defaultdict[ReceiptVerdict, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        status, attempt = states.get(receipt.number, (None, 0))
        if not receipt.copy and (receipt.number, receipt.status, receipt.attempt) in recorded:
            continue  # it is what brought the message there
        if receipt.attempt < attempt:
            refused[ReceiptVerdict.STALE].append(receipt)
        elif receipt.attempt == attempt and status in SENT_STATUSES:
            refused[ReceiptVerdict.DUPLICATE].append(receipt)
        elif receipt.attempt == attempt + 1 and status in SUBMITTABLE_STATUSES:
            early.append(receipt)  # the gateway has it, and we have yet to write that down
        else:
            refused[ReceiptVerdict.UNKNOWN].append(receipt)
    return early, refused


def _read_states(written: Entry, numbers: Sequence[int]) -> dict[int, tuple[Status, int]]:
    rows = written.connection.execute(
        sa.select(messages.c.number, messages.c.status, messages.c.attempt).where(
            messages.c.campaign_id == written.batch.campaign.id,
            written.database.in_list(messages.c.number, numbers),
        )
    )
    return {number: (Status(status), attempt) for number, status, attempt in rows}


def _read_recorded_outcomes(written: Entry, numbers: Sequence[int]) -> set[tuple[int, int, int]]:
    """(number, status, attempt) of the outcomes on record."""
    rows = written.connection.execute(
        sa.select(transitions.c.number, transitions.c.status, transitions.c.attempt).where(
            transitions.c.campaign_id == written.batch.campaign.id,
            transitions.c.status.in_(OUTCOME_STATUSES),
            transitions.c.attempt.in_(range(1, written.batch.campaign.attempts + 1)),
            written.database.in_list(transitions.c.number, numbers),
        )
    )
    return {(number, status, attempt) for number, status, attempt in rows}


def _record_refused_receipts(
    written: Entry, receipts: Sequence[Receipt], verdict: ReceiptVerdict
) -> None:
    if not receipts:
        return
    said = {
        name: [_clamp_to_bigint(value) for value in values]
        for name, values in zip(
            ("number", "attempt", "status", "at", "copy"),
            zip(*(receipt[:5] for receipt in receipts), strict=True),
            strict=True,
        )
    }
    listed = written.database.table_from_columns(**said)
    written.connection.execute(
        written.database.upsert(refused_receipts)
        .from_select(
            ["campaign_id", *said, "verdict"],
            sa.select(
                sa.literal(written.batch.campaign.id, sa.Integer),
                *(listed.c[name] for name in said),
                sa.literal(verdict, sa.String),
            ).where(sa.true()),  # without it SQLite takes what follows for a join's condition
        )
        .on_conflict_do_nothing()
    )


def _clamp_to_bigint(number: int) -> int:
    """The nearest number that the record can hold: a receipt may say anything."""
    return max(-MAX_BIGINT, min(number, MAX_BIGINT))


def count_refused_receipts(
    connection: Connection, campaign_ids: Sequence[int]
) -> Mapping[int, Counter[ReceiptVerdict]]:
    """By campaign, how many receipts did not count, and why."""
    found: dict[int, Counter[ReceiptVerdict]] = {each: Counter() for each in campaign_ids}
    query = (
        sa.select(refused_receipts.c.campaign_id, refused_receipts.c.verdict, sa.func.count())
        .where(refused_receipts.c.campaign_id.in_(campaign_ids))
        .group_by(refused_receipts.c.campaign_id, refused_receipts.c.verdict)
    )
    for campaign_id, verdict, count in connection.execute(query):
        found[campaign_id][ReceiptVerdict(verdict)] = count
    return found


MAX_BOUNCE_LIMIT = 1_000
"""More bounces than any organization puts up with."""


def update_bounce_counts(
    written: Entry, status: Status, attempt: int, numbers: Sequence[int]
) -> None:
    """Note in the customers' records that messages to them ended with ``status``.

    Call it with those that an entry has just moved, so that each counts once. A hard bounce counts,
    and a soft one with which the attempts are used up; a delivery takes back earlier soft ones.
    """
    campaign = written.batch.campaign
    hard = customers.c[f"hard_bounces_{campaign.channel}"]
    soft = customers.c[f"soft_bounces_{campaign.channel}"]
    change = sa.update(customers).where(
        customers.c.audience_id == campaign.audience_id,
        written.database.in_list(customers.c.number, numbers),
    )
    if status is Status.HARD_BOUNCED:
        change = change.values({hard: hard + 1})
    elif status is Status.SOFT_BOUNCED and attempt >= campaign.attempts:
        change = change.values({soft: soft + 1})
    elif status is Status.DELIVERED:
        change = change.where(soft > 0).values({soft: 0})
    else:
        return
    written.connection.execute(change)
