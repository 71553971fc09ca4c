"""What the figures of a run can still become, while it goes on.

Sound, not a guess: whatever the rest of the run does, a figure ends between its bounds. So a run
ends early for a threshold only if that could not have been met any more.
"""

from collections.abc import Collection, Iterator, Sequence
from math import inf

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from simulator.figures import (
    ALL,
    COUNTS,
    LATENCIES,
    LEDGER,
    PERCENTILES,
    SECONDS,
    counts,
    owner,
)
from simulator.results.measure import real_seconds
from simulator.scenario.thresholds import Threshold
from simulator.setup.record import Loaded, Run
from simulator.world import ledger
from tracker.queries.latencies import (
    SPANS,
    TO_FINAL,
    TO_OUTCOME,
    Numbers,
    Span,
    rank,
    read_passages,
)
from tracker.queries.report import Report
from tracker.status import IN_PROGRESS, Status
from tracker.store.schema import batches, tallies

Bounds = tuple[float, float]
"""The least and the most that a figure can end as."""

UP_ONLY = frozenset(
    name
    for name in COUNTS
    if name.split(".")[0] in ("sent", "not_sent", "not_delivered", "opened", "clicked")
) | {"bounced.hard", "spam", "unsubscribed", ALL}
"""Counts that never become less."""

SETTLED = (TO_OUTCOME, TO_FINAL)
"""Spans that go beyond the gateway's acceptance."""

SPAN_OF = {span.name: span for span in SPANS if span.name in LATENCIES}


class Foreboding:
    """Looks, while a run goes on, which of its thresholds can't be met any more."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._thresholds = [each for each in run.scenario.thresholds if each.abort]
        self._names = [loaded.campaign.name for loaded in run.campaigns]
        self._known = {
            loaded.campaign.name: _Known(loaded, self._spans(loaded.campaign.name))
            for loaded in run.campaigns
        }

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._thresholds)

    def _spans(self, campaign: str) -> set[Span]:
        """The spans of a campaign that thresholds are on."""
        figures = (owner(each.figure, self._names) for each in self._thresholds)
        names = (name.partition(".")[0] for of, name in figures if of in (None, campaign))
        return {SPAN_OF[name] for name in names if name in SPAN_OF}

    def look(self, connection: Connection, reports: Sequence[Report]) -> Threshold | None:
        """The first threshold that can't be met any more, with the run as far as ``reports``."""
        for known in self._known.values():
            known.read_on(connection)
        for threshold in self._thresholds:
            least, most = self._bounds(connection, threshold.figure, reports)
            if not threshold.can_be_met_within(least, most):
                return threshold
        return None

    def _bounds(self, connection: Connection, figure: str, reports: Sequence[Report]) -> Bounds:
        campaign, name = owner(figure, self._names)
        pairs = [
            (loaded, report)
            for loaded, report in zip(self._run.campaigns, reports, strict=True)
            if campaign in (None, loaded.campaign.name)
        ]
        of = [report for _, report in pairs]
        planned = sum(loaded.size for loaded, _ in pairs)
        span, _, percentile = name.partition(".")
        if span in SPAN_OF and percentile in PERCENTILES:
            known = [self._known[loaded.campaign.name] for loaded, _ in pairs]
            return _least_percentile(known, span, PERCENTILES[percentile], of, planned), inf
        if name == SECONDS:
            return real_seconds(connection, self._run), inf
        if name in LEDGER:
            found = ledger.counts(connection, [each.campaign.id for each in of])
            return float(getattr(found, name.removeprefix("gateway."))), inf
        count = name.removesuffix(".share")
        least, most = _count(count, of, planned)
        per = planned if count != name else 1
        return least / per, most / per


def _count(name: str, reports: Sequence[Report], planned: int) -> Bounds:
    now = counts(reports)[name]
    to_be_recorded = planned - sum(report.audience for report in reports)
    undecided = to_be_recorded + sum(report.in_progress for report in reports)
    unsettled = planned - sum(report.settled for report in reports)
    least = now if name in UP_ONLY else 0
    if name.split(".")[0] in ("sent", "not_sent"):
        return least, now + undecided
    if name in ("delivered", "not_delivered"):
        return least, now + unsettled
    return least, planned


def _least_percentile(
    known: Sequence["_Known"],
    span: str,
    percent: float,
    reports: Sequence[Report],
    planned: int,
) -> float:
    """What a percentile comes to if all that is not known yet takes no time at all."""
    took = np.concatenate([each.took(span) for each in known])
    most = planned - sum(report.not_sent for report in reports)
    if span == TO_OUTCOME.name:
        most *= max(report.campaign.attempts for report in reports)
    elif span == TO_FINAL.name:
        most = planned
    most = max(most, len(took))
    place = int(rank(percent, most)) - (most - len(took)) - 1
    return float(np.partition(took, place)[place]) / 1e6 if place >= 0 else 0.0


class _Known:
    """The latencies, in some spans, of a campaign's batches that are through: those to the gateway
    once a batch is handed over, the others once it is settled. Each is read once."""

    def __init__(self, loaded: Loaded, spans: Collection[Span]) -> None:
        self._loaded = loaded
        self._took: dict[str, list[Numbers]] = {span.name: [] for span in spans}
        self._spans = {
            settled: [span for span in spans if (span in SETTLED) == settled]
            for settled in (False, True)
        }
        self._read: dict[bool, set[int]] = {False: set(), True: set()}

    def took(self, span: str) -> Numbers:
        """Microseconds."""
        return np.concatenate([np.empty(0, np.uint32), *self._took[span]])

    def read_on(self, connection: Connection) -> None:
        """Take in batches that have got through since the last time."""
        rows = connection.execute(
            sa.select(batches.c.batch, batches.c.first, batches.c.size)
            .where(batches.c.campaign_id == self._loaded.campaign.id)
            .order_by(batches.c.batch)
        ).all()
        for settled, spans in self._spans.items():
            if not spans:
                continue
            read = self._read[settled]
            out = read | self._held(connection, settled)
            through = [(first, size) for batch, first, size in rows if batch not in out]
            read |= {batch for batch, _, _ in rows if batch not in out}
            for first, size in _together(through):
                passages = read_passages(connection, self._loaded.campaign, first, size)
                for span in spans:
                    self._took[span.name].append(passages.timed(span).took)

    def _held(self, connection: Connection, settled: bool) -> set[int]:
        """Batches some of whose messages have yet to be handed over, or to be settled."""
        attempts = self._loaded.campaign.attempts
        waits: sa.ColumnElement[bool] = tallies.c.status.in_(IN_PROGRESS)
        if settled:
            again = sa.and_(tallies.c.status == Status.SOFT_BOUNCED, tallies.c.attempt < attempts)
            waits = sa.or_(waits, tallies.c.status == Status.IN_GATEWAY, again)
        return set(
            connection.scalars(
                sa.select(tallies.c.batch)
                .where(
                    tallies.c.campaign_id == self._loaded.campaign.id,
                    tallies.c.messages > 0,
                    waits,
                )
                .distinct()
            )
        )


def _together(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges of messages, first and size, those that follow each other as one."""
    begun: tuple[int, int] | None = None
    for first, size in ranges:
        if begun is not None and first == sum(begun):
            begun = (begun[0], begun[1] + size)
            continue
        if begun is not None:
            yield begun
        begun = (first, size)
    if begun is not None:
        yield begun
