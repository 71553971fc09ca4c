"""How long messages took from one status to another: exact, from their transitions, never a sample.

Every number is of the run's own time (:mod:`tracker.clock`), which may be faster than real time.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from tracker.clock import Instant, to_real_seconds, to_seconds
from tracker.record.catalog import Campaign
from tracker.status import LEGAL_TRANSITIONS, SENT_STATUSES, Status, Step, is_settled
from tracker.store.arrays import read_columns
from tracker.store.schema.messages import tallies, transitions
from tracker.store.schema.work import steps

MESSAGES_PER_CHUNK = 25_000
"""Messages that are read at a time: what bounds the memory."""

NOT_ENTERED = np.int64(-1)
"""Stands where a message has not entered a status."""


IntegerArray = NDArray[np.int64] | NDArray[np.uint32]


class Span(NamedTuple):
    """A part of a message's way."""

    name: str
    label: str


QUEUED_TO_READY = Span("queued_to_about_to_be_sent", "queued → about to be sent")
READY_TO_GATEWAY = Span("about_to_be_sent_to_gateway", "about to be sent → gateway")
GATEWAY_TO_OUTCOME = Span("gateway_to_outcome", "gateway → outcome")
QUEUED_TO_GATEWAY = Span("queued_to_gateway", "queued → gateway")
QUEUED_TO_FINAL = Span("queued_to_final", "queued → final")
DRIVER_LAG = Span("driver_lag", "arrival → recorded")

SPANS = (
    QUEUED_TO_READY,
    READY_TO_GATEWAY,
    GATEWAY_TO_OUTCOME,
    QUEUED_TO_GATEWAY,
    QUEUED_TO_FINAL,
    DRIVER_LAG,
)
"""All spans. Each attempt has its own from the gateway to its outcome; the others begin once. To
the gateway is to its first acceptance, and final is what needs no more work. The lag is how long
after a message's arrival it was recorded."""


class Timed(NamedTuple):
    """What took how long, in microseconds, and in which real second of the run it was over: arrays
    of one length, of whole numbers as small as they may be."""

    took: IntegerArray
    second: IntegerArray


class Latencies:
    """Latencies of many messages, in ascending order."""

    def __init__(self, micros: IntegerArray) -> None:
        self._micros = np.sort(micros)

    def __len__(self) -> int:
        return len(self._micros)

    def percentile(self, percent: float) -> float | None:
        """The smallest latency, in seconds, that ``percent`` of the messages do not exceed."""
        if not len(self._micros):
            return None
        return to_seconds(float(self._micros[int(percentile_rank(percent, len(self._micros))) - 1]))

    @property
    def seconds(self) -> float:
        """All of them together."""
        return to_seconds(float(self._micros.sum()))


def percentile_rank(percent: float, count: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """The place, from 1, of the smallest of ``count`` values that ``percent`` of them do not
    exceed."""
    # 99.9 % of 1,000 is 999.0000000000001, which is meant to be 999.
    exact = np.ceil(percent / 100 * np.asarray(count) - RANK_EPSILON)
    return np.asarray(np.maximum(exact, 1), np.int64)


RANK_EPSILON = 1e-6

EntryTimes = Mapping[tuple[Status, int], NDArray[np.int64]]
"""When each message of a chunk entered a status on an attempt, or :data:`NOT_ENTERED`."""


class TransitionTimes:
    """How messages went from status to status, as far as they are by now, in a run that ``begun``
    at an instant of its own time, which passes ``speed`` times as fast as real time.

    A message takes some fifty bytes.
    """

    def __init__(self, begun: Instant, speed: float) -> None:
        self._started_at, self._speed = begun, speed
        self._spans: dict[Span, list[Timed]] = {span: [] for span in SPANS}
        self._entered_per_second: dict[Status, NDArray[np.int64]] = {
            each: np.zeros(0, np.int64) for each in Status
        }
        self.first_arrival: Instant | None = None
        self.last_handover: Instant | None = None

    def timed(self, span: Span) -> Timed:
        """All that went through a span."""
        found = self._spans[span]
        if not found:
            return Timed(np.empty(0, np.uint32), np.empty(0, np.uint32))
        took, second = zip(*found, strict=True)
        return Timed(np.concatenate(took), np.concatenate(second))

    def entered(self, status: Status) -> NDArray[np.int64]:
        """How many messages entered a status in each real second, up to the last in which any did.

        What a gateway, whose clock may be wrong, says was before the beginning counts as of then.
        """
        return self._entered_per_second[status]

    def add(self, entries: EntryTimes, attempts: int, recorded: NDArray[np.int64]) -> None:
        """Take in a chunk of messages that were ``recorded`` at these instants."""
        for (status, _), at in entries.items():
            counts = np.bincount(self._real_second(at[at != NOT_ENTERED]))
            self._entered_per_second[status] = _add_counts(self._entered_per_second[status], counts)
        unknown = np.full(len(recorded), NOT_ENTERED)
        queued = entries.get((Status.QUEUED, 0), unknown)
        ready = entries.get((Status.ABOUT_TO_BE_SENT, 0), unknown)
        handed = entries.get((Status.IN_GATEWAY, 1), unknown)
        self._add_span(QUEUED_TO_READY, queued, ready)
        self._add_span(READY_TO_GATEWAY, ready, handed)
        self._add_span(QUEUED_TO_GATEWAY, queued, handed)
        self._add_span(DRIVER_LAG, queued, recorded)
        self._add_span(QUEUED_TO_FINAL, queued, _final_times(entries, attempts, unknown))
        for (status, attempt), accepted in entries.items():
            if status is Status.IN_GATEWAY:
                self._add_span(
                    GATEWAY_TO_OUTCOME, accepted, _outcome_times(entries, attempt, unknown)
                )
        self._update_ends(queued[queued != NOT_ENTERED], handed[handed != NOT_ENTERED])

    def merge(self, other: "TransitionTimes") -> None:
        """Take in all of another campaign's of the same run."""
        for span, timed in other._spans.items():
            self._spans[span] += timed
        for status, counts in other._entered_per_second.items():
            self._entered_per_second[status] = _add_counts(self._entered_per_second[status], counts)
        ends = ((each,) if each else () for each in (other.first_arrival, other.last_handover))
        self._update_ends(*(np.array(each, np.int64) for each in ends))

    def _update_ends(self, arrivals: NDArray[np.int64], handovers: NDArray[np.int64]) -> None:
        if len(arrivals):
            first = int(arrivals.min())
            self.first_arrival = min(self.first_arrival or first, first)
        if len(handovers):
            self.last_handover = max(self.last_handover or 0, int(handovers.max()))

    def _real_second(self, at: NDArray[np.int64]) -> NDArray[np.uint32]:
        real = to_real_seconds(at - self._started_at, self._speed)
        return np.asarray(np.clip(real, 0, MAX_RUN_SECONDS).astype(np.uint32))

    def _add_span(self, span: Span, begun: NDArray[np.int64], ended: NDArray[np.int64]) -> None:
        through = (begun != NOT_ENTERED) & (ended != NOT_ENTERED)
        if through.any():
            end = ended[through]
            took = end - begun[through]
            # A wrong clock may make it negative. Nearly always half of the room will do.
            small = int(took.min()) >= 0 and int(took.max()) < 2**32
            numbers: IntegerArray = took.astype(np.uint32) if small else took
            self._spans[span].append(Timed(numbers, self._real_second(end)))


MAX_RUN_SECONDS = 10_000_000
"""A gateway whose clock is further ahead than that is not followed."""


def _add_counts(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of counts of which the shorter ones go on with zeros."""
    total = np.zeros(max(len(one), len(other)), np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


def _final_times(entries: EntryTimes, attempts: int, never: NDArray[np.int64]) -> NDArray[np.int64]:
    """When messages entered the last status that needs no more work; late bounces come last."""
    found = [at for (status, k), at in entries.items() if is_settled(status, k, attempts)]
    return np.asarray(np.maximum.reduce([never, *found]))


def _outcome_times(
    entries: EntryTimes, attempt: int, never: NDArray[np.int64]
) -> NDArray[np.int64]:
    """When the gateway first said what became of an attempt."""
    outcomes = [
        entries.get((each, attempt), never) for each in LEGAL_TRANSITIONS[Status.IN_GATEWAY]
    ]
    latest = np.iinfo(np.int64).max
    first = np.minimum.reduce([np.where(at == NOT_ENTERED, latest, at) for at in outcomes])
    return np.asarray(np.where(first == latest, NOT_ENTERED, first))


def read_transition_times(
    connection: Connection, campaign: Campaign, first: int = 0, count: int | None = None
) -> TransitionTimes:
    """The passages of a campaign's messages ``first`` …, all of them if no ``count`` is given."""
    recorded = _read_batch_times(connection, campaign)
    size = int(recorded.last_number[-1]) + 1 if len(recorded.last_number) else 0
    end = size if count is None else min(first + count, size)
    attempts = _read_max_attempt(connection, campaign)
    passages = TransitionTimes(campaign.started_at, campaign.speed)
    for begin in range(first, end, MESSAGES_PER_CHUNK):
        length = min(MESSAGES_PER_CHUNK, end - begin)
        entries = _read_entry_times(connection, campaign.id, attempts, begin, length)
        batch = np.searchsorted(recorded.last_number, np.arange(begin, begin + length))
        passages.add(entries, campaign.attempts, recorded.at[batch])
    return passages


class _BatchTimes(NamedTuple):
    """The last message of each batch, ascending, and when that batch was recorded."""

    last_number: NDArray[np.int64]
    at: NDArray[np.int64]


def _read_batch_times(connection: Connection, campaign: Campaign) -> _BatchTimes:
    batches, sizes, at = read_columns(
        connection,
        sa.select(steps.c.batch, steps.c.moved, steps.c.finished_at).where(
            steps.c.campaign_id == campaign.id, steps.c.step == Step.ENQUEUE
        ),
    )
    order = np.argsort(batches)
    return _BatchTimes(np.cumsum(sizes[order]) - 1, at[order])


def _read_max_attempt(connection: Connection, campaign: Campaign) -> int:
    """The highest attempt that any message is on."""
    highest = sa.select(sa.func.max(tallies.c.attempt)).where(tallies.c.campaign_id == campaign.id)
    return connection.scalar(highest) or 0


def _read_entry_times(
    connection: Connection, campaign_id: int, attempts: int, first: int, count: int
) -> EntryTimes:
    entries: dict[tuple[Status, int], NDArray[np.int64]] = {}
    for status in Status:
        for attempt in range(1, attempts + 1) if status in SENT_STATUSES else (0,):
            numbers, at = read_columns(
                connection,
                sa.select(transitions.c.number, transitions.c.at).where(
                    transitions.c.campaign_id == campaign_id,
                    transitions.c.status == status,
                    transitions.c.attempt == attempt,
                    transitions.c.number.between(first, first + count - 1),
                ),
            )
            if len(numbers):
                entered = np.full(count, NOT_ENTERED)
                entered[numbers - first] = at
                entries[status, attempt] = entered
    return entries
