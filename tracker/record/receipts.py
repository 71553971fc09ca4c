"""Apply receipts: what gateways report of messages, late, twice, or out of order.

A receipt is applied only for the attempt that it names, and only where the transition is legal.
Each other receipt is recorded once, with the reason why it was refused, however often it arrives.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import Any, NamedTuple, overload

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

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
from tracker.store.columns import as_array, as_sequence
from tracker.store.schema.messages import messages, refused_receipts, transitions

OUTCOME_STATUSES = LEGAL_TRANSITIONS[Status.IN_GATEWAY]

SUBMITTABLE_STATUSES = frozenset(
    source for source, targets in LEGAL_TRANSITIONS.items() if Status.IN_GATEWAY in targets
)
"""Statuses of a message that waits for submission."""

MAX_CLOCK_LEAD = timedelta(minutes=5)
"""Real time by which a gateway's clock may be ahead of ours."""

MAX_ATTEMPT = MAX_STATUS = 2**15 - 1

MAX_BIGINT = 2**63 - 1


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


@dataclass(frozen=True, eq=False)
class Receipts(Sequence[Receipt]):
    """Receipts as columns, an array for each attribute of `Receipt`.

    Attributes:
        details: texts; None for a receipt without a detail.
    """

    numbers: NDArray[np.int64]
    attempts: NDArray[np.int64]
    statuses: NDArray[np.int64]
    at: NDArray[np.int64]
    copies: NDArray[np.int64]
    details: NDArray[np.object_]

    @classmethod
    def of(cls, *parts: Collection[Receipt]) -> "Receipts":
        """Return the receipts of all parts, in their order.

        A value that no column holds is replaced by the nearest one; such a receipt is unknown.
        """
        columns = [cls._parse(())]
        columns += [part if isinstance(part, Receipts) else cls._parse(part) for part in parts]
        return cls(*map(np.concatenate, zip(*map(cls._columns, columns), strict=True)))

    @classmethod
    def of_outcomes(
        cls,
        numbers: NDArray[np.int64],
        attempt: int,
        statuses: NDArray[np.int64],
        at: NDArray[np.int64],
    ) -> "Receipts":
        """Return receipts of one attempt at each message, without details."""
        no_copies = np.zeros_like(numbers)
        no_details = np.full(len(numbers), None)
        return cls(numbers, np.full_like(numbers, attempt), statuses, at, no_copies, no_details)

    @classmethod
    def _parse(cls, receipts: Collection[Receipt]) -> "Receipts":
        *integers, details = zip(*receipts, strict=True) if receipts else ((),) * 6
        numbers, attempts, statuses, at, copies = map(_as_bigints, integers)
        return cls(numbers, attempts, statuses, at, copies, np.array(details, np.object_))

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self.numbers, self.attempts, self.statuses, self.at, self.copies, self.details

    def select(self, rows: "NDArray[np.integer[Any] | np.bool_] | slice") -> "Receipts":
        """Return the receipts at some positions, or those for which a mask is true."""
        return Receipts(*(column[rows] for column in self._columns()))

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, position: int) -> Receipt: ...

    @overload
    def __getitem__(self, position: slice) -> "Receipts": ...

    def __getitem__(self, position: int | slice) -> "Receipt | Receipts":
        if isinstance(position, slice):
            return self.select(position)
        return Receipt._make(column.item(position) for column in self._columns())

    def __iter__(self) -> Iterator[Receipt]:
        columns = [column.tolist() for column in self._columns()]
        return map(Receipt._make, zip(*columns, strict=True))


def _as_bigints(numbers: Sequence[int]) -> NDArray[np.int64]:
    """Return numbers as the database can hold them; a receipt may contain any."""
    return np.clip(np.array(numbers, np.object_), -MAX_BIGINT, MAX_BIGINT).astype(np.int64)


def apply_receipts(entry: Entry, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
    """Move the messages of an entry's batch as receipts report, and record refused receipts.

    Returns:
        The receipts that came too early: their attempt isn't recorded yet.
    """
    plausible, unknown = _split_by_plausibility(entry, Receipts.of(receipts))
    first, later = _split_by_attempt(plausible)
    by_outcome = _group_by_outcome(first)
    unmoved = [_move_messages(entry, Status.IN_GATEWAY, receipts) for receipts in by_outcome]
    if first:
        update_unconfirmed_batch(entry)
    record_refused_receipts(entry, unknown, ReceiptVerdict.UNKNOWN)
    remaining: Sequence[Receipt] = Receipts.of(later, *unmoved)
    if remaining:
        remaining = _apply_late_receipts(entry, sorted(remaining, key=_receipt_order))
    if not remaining:
        return ()
    early, refused = _classify_receipts(entry, remaining)
    for verdict, group in refused.items():
        record_refused_receipts(entry, group, verdict)
    return early


def _split_by_plausibility(entry: Entry, receipts: Receipts) -> tuple[Receipts, Receipts]:
    """Return the receipts that may be right, and those that can't be."""
    campaign = entry.batch.campaign
    latest = campaign.clock.now() + to_run_microseconds(MAX_CLOCK_LEAD, max(1.0, campaign.speed))
    is_plausible = (
        (receipts.numbers >= entry.batch.first)
        & (receipts.numbers <= entry.batch.last)
        & np.isin(receipts.statuses, [*OUTCOME_STATUSES])
        & (receipts.attempts >= 1)
        & (receipts.attempts <= MAX_ATTEMPT)
        & (receipts.at <= latest)
    )
    if unknown_before := _read_unknown_receipts(entry):
        is_new = [receipt[:4] not in unknown_before for receipt in receipts]
        is_plausible &= np.array(is_new, np.bool_)
    if is_plausible.all():
        return receipts, receipts[:0]
    return receipts.select(is_plausible), receipts.select(~is_plausible)


def _split_by_attempt(receipts: Receipts) -> tuple[Receipts, Receipts]:
    """Return the first receipt of each attempt at a message, by number, and the later ones."""
    ordered = receipts.select(np.lexsort((receipts.copies, receipts.at)))
    keys = ordered.numbers * (MAX_ATTEMPT + 1) + ordered.attempts
    _, first = np.unique(keys, return_index=True)
    is_later = np.ones(len(ordered), np.bool_)
    is_later[first] = False
    return ordered.select(first), ordered.select(is_later)


def _group_by_outcome(receipts: Receipts) -> Iterator[Receipts]:
    """Yield the receipts of each attempt and status, in the order that they have."""
    outcomes = receipts.attempts * (MAX_STATUS + 1) + receipts.statuses
    for outcome in np.unique(outcomes):
        yield receipts.select(outcomes == outcome)


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


def _move_messages(entry: Entry, source: Status, receipts: Receipts) -> Receipts:
    """Move messages from a status as their receipts report.

    Args:
        receipts: receipts of one attempt and one status, at most one for each message.

    Returns:
        The receipts of messages that aren't in `source`.
    """
    status, attempt = Status(int(receipts.statuses[0])), int(receipts.attempts[0])
    explained = receipts.select(np.flatnonzero(receipts.details))
    moved = entry.move(
        Move(
            numbers=as_sequence(receipts.numbers),
            source=State(status=source, attempt=attempt),
            target=State(status=status, attempt=attempt),
            at=receipts.at,
            details={
                receipt.number: TransitionDetail(text=receipt.detail)
                for receipt in explained
                if receipt.detail
            },
        )
    )
    if not moved:
        return receipts
    remaining = receipts[:0]
    if len(moved) < len(receipts):
        is_moved = np.isin(receipts.numbers, as_array(moved))
        remaining, receipts = receipts.select(~is_moved), receipts.select(is_moved)
    update_bounce_counts(entry, status, attempt, moved)
    entry.suppressions.add_outcome(entry.batch.campaign, status, attempt, moved)
    if status in (Status.DELIVERED, Status.HARD_BOUNCED):
        count_outcome(entry, source, status, moved)
    if status is Status.DELIVERED and entry.batch.campaign.tracks_engagement:
        mark_due(entry, DueKind.ENGAGEMENT, int(receipts.at.min()))
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
                others += _move_messages(entry, source, Receipts.of(group.values()))
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
    early = []
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
    columns = Receipts.of(receipts)
    rows = entry.database.table_from_columns(
        number=columns.numbers,
        attempt=columns.attempts,
        status=columns.statuses,
        at=columns.at,
        copy=columns.copies,
    )
    query = sa.select(
        sa.literal(entry.batch.campaign.id, sa.Integer), *rows.c, sa.literal(verdict, sa.String)
    )
    names = ["campaign_id", *rows.c.keys(), "verdict"]
    insert = entry.database.insert_missing_from(refused_receipts, names, query)
    count = entry.connection.execute(insert).rowcount
    entry.counters.add(CounterName.REFUSED_RECEIPTS, verdict, count)
