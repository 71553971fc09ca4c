"""Read how long messages took from one status to another, exactly, from their transitions.

All times are on the clock of the run, which may be faster than real time (see `tracker.clock`).
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from tracker.clock import Instant, to_real_seconds, to_seconds
from tracker.queries.retries import compute_retry_pause
from tracker.record.catalog import Campaign
from tracker.status import LEGAL_TRANSITIONS, SENT_STATUSES, Status, Step, is_settled
from tracker.store.arrays import read_columns
from tracker.store.schema.messages import tallies, transitions
from tracker.store.schema.work import steps

MESSAGES_PER_CHUNK = 25_000
"""Messages whose transitions are read at a time, to limit the memory."""

MAX_RUN_SECONDS = 10_000_000
"""Real seconds of a run up to which events are placed. Later ones, from a gateway with a wrong
clock, count in the last second."""

RANK_EPSILON = 1e-6
"""Tolerance of a percentile's rank: 99.9 % of 1,000 is 999.0000000000001 and means 999."""

NOT_ENTERED = np.int64(-1)
"""Time of a message that hasn't entered a status."""

InstantArray = NDArray[np.int64]
IntegerArray = NDArray[np.integer]

_PackedSpan = tuple[IntegerArray, IntegerArray]
"""When messages of a chunk entered and left a span, each packed by `TransitionTimes._pack`."""

EntryTimes = Mapping[tuple[Status, int], InstantArray]
"""By status and attempt, when each message of a chunk entered it, or `NOT_ENTERED`."""


class Span(NamedTuple):
    """A section of a message's path, with its key in figures and its label for people."""

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
"""All spans.

`GATEWAY_TO_OUTCOME` has a time for each attempt, the others one for each message. A span to the
gateway ends at the first acceptance, `QUEUED_TO_FINAL` at the last status that needs no more work.
`DRIVER_LAG` is from a message's arrival until its batch is recorded.
"""


class SpanTimes(NamedTuple):
    """The times of one span: two arrays of the same length.

    Attributes:
        durations: microseconds that the span took.
        end_seconds: real second of the run in which the span ended.
    """

    durations: IntegerArray
    end_seconds: IntegerArray


class Latencies:
    """The latencies of many messages."""

    def __init__(self, microseconds: IntegerArray) -> None:
        self._sorted = np.sort(microseconds)

    def __len__(self) -> int:
        return len(self._sorted)

    def percentile(self, percent: float) -> float | None:
        """Return the smallest latency, in seconds, that `percent` of the messages don't exceed."""
        if not len(self._sorted):
            return None
        return to_seconds(float(self._sorted[int(percentile_rank(percent, len(self._sorted))) - 1]))

    def has_coinciding_percentiles(self, percents: Iterable[float]) -> bool:
        """Return whether two percentiles are the same latency, of different messages."""
        ranks = {int(percentile_rank(percent, len(self))) for percent in percents}
        values = {int(self._sorted[rank - 1]) for rank in ranks if len(self)}
        return 0 < len(values) < len(ranks)

    @property
    def total_seconds(self) -> float:
        """The sum of all latencies."""
        return to_seconds(float(self._sorted.sum()))


def percentile_rank(percent: float, count: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rank, from 1, of the smallest of `count` values that `percent` don't exceed."""
    exact = np.ceil(percent / 100 * np.asarray(count) - RANK_EPSILON)
    return np.asarray(np.maximum(exact, 1), np.int64)


class TransitionTimes:
    """Times at which the messages of a campaign, or of a run, went from status to status.

    A message takes five instants of four bytes: arrival, recording, dispatch, acceptance and last
    status. Attempts whose outcome isn't the last status take more. The times of a span are computed
    when they are asked for. Times count from `started_at` on the clock of the run, which passes
    `speed` times as fast as real time.
    """

    def __init__(self, started_at: Instant, speed: float) -> None:
        self._started_at, self._speed = started_at, speed
        self._spans: dict[Span, list[_PackedSpan]] = {span: [] for span in SPANS}
        self._entered_per_second = {status: np.zeros(0, np.int64) for status in Status}
        self.blocked_at_submit_per_second = np.zeros(0, np.int64)
        """Messages in each real second that ended Not Sent after their dispatch."""
        self._retry_seconds: list[NDArray[np.uint32]] = []
        self.first_arrival: Instant | None = None
        self.last_arrival: Instant | None = None
        self.last_acceptance: Instant | None = None
        """When the gateway accepted the last message that it accepted on its first attempt."""

    def span_times(self, span: Span) -> SpanTimes:
        """Return the times of all messages that completed a span."""
        durations: list[IntegerArray] = [np.empty(0, np.uint8)]
        end_seconds: list[IntegerArray] = [np.empty(0, np.uint8)]
        for begun, ended in self._spans[span]:
            begin, end = self._unpack(begun), self._unpack(ended)
            is_complete = (begin != NOT_ENTERED) & (end != NOT_ENTERED)
            durations.append(_shrink(end[is_complete] - begin[is_complete]))
            end_seconds.append(_shrink(self._real_second(end[is_complete])))
        return SpanTimes(np.concatenate(durations), np.concatenate(end_seconds))

    def entered_per_second(self, status: Status) -> NDArray[np.int64]:
        """Return how many messages entered a status in each real second, up to the last entry.

        An entry that a gateway with a wrong clock reports from before the run counts in second 0.
        """
        return self._entered_per_second[status]

    def retries_due_per_second(self, rows: int) -> NDArray[np.int64]:
        """Return how many messages became due for another attempt in each of `rows` seconds."""
        seconds = np.concatenate([np.empty(0, np.uint32), *self._retry_seconds])
        return np.asarray(np.bincount(seconds[seconds < rows], minlength=rows), np.int64)

    def add_chunk(
        self,
        entries: EntryTimes,
        attempts: int,
        recorded_at: InstantArray,
        *,
        retry_pauses: Mapping[int, int],
    ) -> None:
        """Add a chunk of messages of a campaign.

        Args:
            attempts: times that the campaign submits a message at most.
            recorded_at: when each message was recorded.
            retry_pauses: microseconds from a soft bounce until the next attempt is due, by the
                attempt that bounced.
        """
        for (status, _), at in entries.items():
            counts = np.bincount(self._real_second(at[at != NOT_ENTERED]))
            self._entered_per_second[status] = _add_counts(self._entered_per_second[status], counts)
        missing = np.full(len(recorded_at), NOT_ENTERED)
        self._count_blocked_at_submit(entries, missing)
        arrived = entries.get((Status.QUEUED, 0), missing)
        first_accepted = entries.get((Status.IN_GATEWAY, 1), missing)
        queued, accepted = self._pack(arrived), self._pack(first_accepted)
        ready = self._pack(entries.get((Status.ABOUT_TO_BE_SENT, 0), missing))
        last_settled = _final_times(entries, attempts, missing)
        final = self._pack(last_settled)
        self._spans[QUEUED_TO_READY].append((queued, ready))
        self._spans[READY_TO_GATEWAY].append((ready, accepted))
        self._spans[QUEUED_TO_GATEWAY].append((queued, accepted))
        self._spans[DRIVER_LAG].append((queued, self._pack(recorded_at)))
        self._spans[QUEUED_TO_FINAL].append((queued, final))
        for (status, attempt), attempt_entered in entries.items():
            if status is Status.IN_GATEWAY:
                is_entered = attempt_entered != NOT_ENTERED
                outcome = _outcome_times(entries, attempt, missing)[is_entered]
                ends = self._pack(attempt_entered[is_entered]), self._pack(outcome)
                if attempt == 1 and np.array_equal(outcome, last_settled[is_entered]):
                    ends = accepted, final  # which the chunk has in any case
                self._spans[GATEWAY_TO_OUTCOME].append(ends)
            if status is Status.SOFT_BOUNCED and attempt < attempts:
                bounced = attempt_entered[attempt_entered != NOT_ENTERED]
                self._retry_seconds.append(self._real_second(bounced + retry_pauses[attempt]))
        self._update_ends(*(at[at != NOT_ENTERED] for at in (arrived, first_accepted)))

    def merge(self, other: "TransitionTimes") -> None:
        """Add the messages of another campaign of the same run."""
        for span, chunks in other._spans.items():
            self._spans[span] += chunks
        for status, counts in other._entered_per_second.items():
            self._entered_per_second[status] = _add_counts(self._entered_per_second[status], counts)
        self.blocked_at_submit_per_second = _add_counts(
            self.blocked_at_submit_per_second, other.blocked_at_submit_per_second
        )
        self._retry_seconds += other._retry_seconds
        ends = (other.first_arrival, other.last_arrival)
        arrivals = [at for at in ends if at is not None]
        acceptances = [] if other.last_acceptance is None else [other.last_acceptance]
        self._update_ends(np.array(arrivals, np.int64), np.array(acceptances, np.int64))

    def _count_blocked_at_submit(self, entries: EntryTimes, missing: InstantArray) -> None:
        ready = entries.get((Status.ABOUT_TO_BE_SENT, 0), missing)
        ended = entries.get((Status.NOT_SENT, 0), missing)
        is_blocked = (ready != NOT_ENTERED) & (ended != NOT_ENTERED)
        counts = np.bincount(self._real_second(ended[is_blocked]))
        self.blocked_at_submit_per_second = _add_counts(self.blocked_at_submit_per_second, counts)

    def _update_ends(self, arrivals: InstantArray, acceptances: InstantArray) -> None:
        if len(arrivals):
            first = int(arrivals.min())
            self.first_arrival = min(self.first_arrival or first, first)
            self.last_arrival = max(self.last_arrival or 0, int(arrivals.max()))
        if len(acceptances):
            self.last_acceptance = max(self.last_acceptance or 0, int(acceptances.max()))

    def _real_second(self, at: InstantArray) -> NDArray[np.uint32]:
        seconds = to_real_seconds(at - self._started_at, self._speed)
        return np.asarray(np.clip(seconds, 0, MAX_RUN_SECONDS).astype(np.uint32))

    def _pack(self, at: InstantArray) -> IntegerArray:
        """Return instants in 32 bits, counted from the start of the run; 0 is `NOT_ENTERED`.

        Return `at` if one lies before the run, by a wrong clock, or 71 minutes after its start.
        """
        since_start = np.where(at == NOT_ENTERED, 0, at - self._started_at + 1)
        is_before = (since_start <= 0) & (at != NOT_ENTERED)
        has_space = since_start.max(initial=0) < 2**32 and not is_before.any()
        return since_start.astype(np.uint32) if has_space else at

    def _unpack(self, packed: IntegerArray) -> InstantArray:
        if packed.dtype == np.uint32:
            return np.where(packed == 0, NOT_ENTERED, packed + np.int64(self._started_at - 1))
        return packed.astype(np.int64, copy=False)


def _shrink(values: IntegerArray) -> IntegerArray:
    """Return values in as few bytes as they need, unless one needs 64 bits or is negative."""
    if int(values.min(initial=0)) < 0 or int(values.max(initial=0)) >= 2**32:
        return values
    return np.asarray(values.astype(np.min_scalar_type(values.max(initial=0))))


def _add_counts(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of two arrays, the shorter one continued with zeros."""
    total = np.zeros(max(len(one), len(other)), np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


def _final_times(entries: EntryTimes, attempts: int, missing: InstantArray) -> InstantArray:
    """Return when messages entered the last status that needs no more work."""
    settled = [
        at for (status, attempt), at in entries.items() if is_settled(status, attempt, attempts)
    ]
    return np.asarray(np.maximum.reduce([missing, *settled]))


def _outcome_times(entries: EntryTimes, attempt: int, missing: InstantArray) -> InstantArray:
    """Return when the first outcome of an attempt occurred."""
    outcomes = [
        entries.get((status, attempt), missing) for status in LEGAL_TRANSITIONS[Status.IN_GATEWAY]
    ]
    latest = np.iinfo(np.int64).max
    first = np.minimum.reduce([np.where(at == NOT_ENTERED, latest, at) for at in outcomes])
    return np.asarray(np.where(first == latest, NOT_ENTERED, first))


def read_transition_times(
    connection: Connection, campaign: Campaign, first: int = 0, count: int | None = None
) -> TransitionTimes:
    """Return the times of a campaign's messages: all, or `count` of them from number `first`."""
    recorded = _read_batch_times(connection, campaign)
    size = int(recorded.last_number[-1]) + 1 if len(recorded.last_number) else 0
    end = size if count is None else min(first + count, size)
    query = sa.select(sa.func.max(tallies.c.attempt)).where(tallies.c.campaign_id == campaign.id)
    attempts = connection.scalar(query) or 0
    pauses = {attempt: compute_retry_pause(campaign, attempt) for attempt in range(1, attempts + 1)}
    times = TransitionTimes(campaign.started_at, campaign.speed)
    for chunk_first in range(first, end, MESSAGES_PER_CHUNK):
        length = min(MESSAGES_PER_CHUNK, end - chunk_first)
        entries = _read_entry_times(connection, campaign.id, attempts, chunk_first, length)
        numbers = np.arange(chunk_first, chunk_first + length)
        recorded_at = recorded.recorded_at[np.searchsorted(recorded.last_number, numbers)]
        times.add_chunk(entries, campaign.attempts, recorded_at, retry_pauses=pauses)
    return times


class _BatchTimes(NamedTuple):
    """The batches of a campaign: the last message of each, ascending, and its time."""

    last_number: NDArray[np.int64]
    recorded_at: InstantArray


def _read_batch_times(connection: Connection, campaign: Campaign) -> _BatchTimes:
    batches, sizes, at = read_columns(
        connection,
        sa.select(steps.c.batch, steps.c.moved, steps.c.finished_at).where(
            steps.c.campaign_id == campaign.id, steps.c.step == Step.ENQUEUE
        ),
    )
    order = np.argsort(batches)
    return _BatchTimes(np.cumsum(sizes[order]) - 1, at[order])


def _read_entry_times(
    connection: Connection, campaign_id: int, attempts: int, first: int, count: int
) -> EntryTimes:
    entries: dict[tuple[Status, int], InstantArray] = {}
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
