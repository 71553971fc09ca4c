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

IntegerArray = NDArray[np.int64] | NDArray[np.uint32]

EntryTimes = Mapping[tuple[Status, int], NDArray[np.int64]]
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

    A message takes some thirty bytes. Times count from `started_at` on the clock of the run, which
    passes `speed` times as fast as real time.
    """

    def __init__(self, started_at: Instant, speed: float) -> None:
        self._started_at, self._speed = started_at, speed
        self._spans: dict[Span, list[SpanTimes]] = {span: [] for span in SPANS}
        self._entered_per_second: dict[Status, NDArray[np.int64]] = {
            status: np.zeros(0, np.int64) for status in Status
        }
        self.blocked_at_submit_per_second = np.zeros(0, np.int64)
        """Messages in each real second that ended Not Sent after their dispatch."""
        self._retry_seconds: list[NDArray[np.uint32]] = []
        self.first_arrival: Instant | None = None
        self.last_arrival: Instant | None = None
        self.last_acceptance: Instant | None = None
        """When the gateway accepted the last message that it accepted on its first attempt."""

    def span_times(self, span: Span) -> SpanTimes:
        """Return the times of all messages that completed a span."""
        chunks = self._spans[span]
        if not chunks:
            return SpanTimes(np.empty(0, np.uint32), np.empty(0, np.uint32))
        durations, end_seconds = zip(*chunks, strict=True)
        return SpanTimes(np.concatenate(durations), np.concatenate(end_seconds, dtype=np.uint32))

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
        recorded_at: NDArray[np.int64],
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
        queued = entries.get((Status.QUEUED, 0), missing)
        ready = entries.get((Status.ABOUT_TO_BE_SENT, 0), missing)
        accepted = entries.get((Status.IN_GATEWAY, 1), missing)
        self._add_span(QUEUED_TO_READY, queued, ready)
        self._add_span(READY_TO_GATEWAY, ready, accepted)
        self._add_span(QUEUED_TO_GATEWAY, queued, accepted)
        self._add_span(DRIVER_LAG, queued, recorded_at)
        self._add_span(QUEUED_TO_FINAL, queued, _final_times(entries, attempts, missing))
        for (status, attempt), attempt_entered in entries.items():
            if status is Status.IN_GATEWAY:
                outcomes = _outcome_times(entries, attempt, missing)
                self._add_span(GATEWAY_TO_OUTCOME, attempt_entered, outcomes)
            if status is Status.SOFT_BOUNCED and attempt < attempts:
                bounced = attempt_entered[attempt_entered != NOT_ENTERED]
                self._retry_seconds.append(self._real_second(bounced + retry_pauses[attempt]))
        self._update_ends(queued[queued != NOT_ENTERED], accepted[accepted != NOT_ENTERED])

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

    def _count_blocked_at_submit(self, entries: EntryTimes, missing: NDArray[np.int64]) -> None:
        ready = entries.get((Status.ABOUT_TO_BE_SENT, 0), missing)
        ended = entries.get((Status.NOT_SENT, 0), missing)
        is_blocked = (ready != NOT_ENTERED) & (ended != NOT_ENTERED)
        counts = np.bincount(self._real_second(ended[is_blocked]))
        self.blocked_at_submit_per_second = _add_counts(self.blocked_at_submit_per_second, counts)

    def _update_ends(self, arrivals: NDArray[np.int64], acceptances: NDArray[np.int64]) -> None:
        if len(arrivals):
            first = int(arrivals.min())
            self.first_arrival = min(self.first_arrival or first, first)
            self.last_arrival = max(self.last_arrival or 0, int(arrivals.max()))
        if len(acceptances):
            self.last_acceptance = max(self.last_acceptance or 0, int(acceptances.max()))

    def _real_second(self, at: NDArray[np.int64]) -> NDArray[np.uint32]:
        seconds = to_real_seconds(at - self._started_at, self._speed)
        return np.asarray(np.clip(seconds, 0, MAX_RUN_SECONDS).astype(np.uint32))

    def _add_span(self, span: Span, begun: NDArray[np.int64], ended: NDArray[np.int64]) -> None:
        is_complete = (begun != NOT_ENTERED) & (ended != NOT_ENTERED)
        if is_complete.any():
            end = ended[is_complete]
            durations: IntegerArray = end - begun[is_complete]
            # A wrong clock may make a duration negative. Nearly always 32 bits are enough.
            if int(durations.min()) >= 0 and int(durations.max()) < 2**32:
                durations = durations.astype(np.uint32)
            seconds = self._real_second(end)
            seconds = seconds.astype(np.min_scalar_type(seconds.max()))  # a byte in a short run
            self._spans[span].append(SpanTimes(durations, seconds))


def _add_counts(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of two arrays, the shorter one continued with zeros."""
    total = np.zeros(max(len(one), len(other)), np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


def _final_times(
    entries: EntryTimes, attempts: int, missing: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return when messages entered the last status that needs no more work."""
    settled = [
        at for (status, attempt), at in entries.items() if is_settled(status, attempt, attempts)
    ]
    return np.asarray(np.maximum.reduce([missing, *settled]))


def _outcome_times(
    entries: EntryTimes, attempt: int, missing: NDArray[np.int64]
) -> NDArray[np.int64]:
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
    attempts = _read_max_attempt(connection, campaign)
    pauses = {attempt: compute_retry_pause(campaign, attempt) for attempt in range(1, attempts + 1)}
    times = TransitionTimes(campaign.started_at, campaign.speed)
    for chunk_first in range(first, end, MESSAGES_PER_CHUNK):
        length = min(MESSAGES_PER_CHUNK, end - chunk_first)
        entries = _read_entry_times(connection, campaign.id, attempts, chunk_first, length)
        numbers = np.arange(chunk_first, chunk_first + length)
        batch = np.searchsorted(recorded.last_number, numbers)
        times.add_chunk(
            entries,
            campaign.attempts,
            recorded.recorded_at[batch],
            retry_pauses=pauses,
        )
    return times


class _BatchTimes(NamedTuple):
    """The batches of a campaign: the last message of each, ascending, and its time."""

    last_number: NDArray[np.int64]
    recorded_at: NDArray[np.int64]


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
    query = sa.select(sa.func.max(tallies.c.attempt)).where(tallies.c.campaign_id == campaign.id)
    return connection.scalar(query) or 0


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
