"""What the figures of a run can still become, while it goes on.

Sound, not a guess: whatever the rest of the run does, a figure ends between its bounds. So a run
ends early for a threshold only if that could not have been met any more.
"""

from collections.abc import Mapping, Sequence
from math import ceil, inf

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from simulator import ledger
from simulator.figures import (
    ALL,
    COUNTS,
    LATENCIES,
    LEDGER,
    PERCENTILES,
    SECONDS,
    THROUGHPUT,
    counts,
    owner,
)
from simulator.load import Loaded, Run
from simulator.thresholds import Threshold
from tracker.latencies import SPANS, TO_FINAL, TO_OUTCOME, Numbers, read_passages
from tracker.report import Report
from tracker.schema import batches, tallies
from tracker.status import IN_PROGRESS, Status

Bounds = tuple[float, float]
"""The least and the most that a figure can end as."""

UP_ONLY = frozenset(
    name
    for name in COUNTS
    if name.split(".")[0] in ("sent", "not_sent", "not_delivered", "opened", "clicked")
) | {"bounced.hard", "spam", "unsubscribed", ALL}
"""Counts that never become less."""

SPAN_OF = {span.name: span for span in SPANS if span.name in LATENCIES}


class Foreboding:
    """Looks, while a run goes on, which of its thresholds can't be met any more."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._thresholds = [each for each in run.scenario.thresholds if each.abort]
        self._names = [loaded.campaign.name for loaded in run.campaigns]
        self._known = {
            loaded.campaign.name: _Known(loaded)
            for loaded in run.campaigns
            if any(self._is_latency(each, loaded.campaign.name) for each in self._thresholds)
        }

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._thresholds)

    def _is_latency(self, threshold: Threshold, campaign: str) -> bool:
        of, name = owner(threshold.figure, self._names)
        return of in (None, campaign) and name.partition(".")[0] in SPAN_OF

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
        if name == THROUGHPUT:
            return 0.0, self._most_throughput(pairs, planned)
        if name == SECONDS:
            return self._elapsed([loaded for loaded, _ in pairs]), inf
        if name in LEDGER:
            found = ledger.counts(connection, [each.campaign.id for each in of])
            return float(getattr(found, name.removeprefix("gateway."))), inf
        count = name.removesuffix(".share")
        least, most = _count(count, of, planned)
        per = planned if count != name else 1
        return least / per, most / per

    def _elapsed(self, campaigns: Sequence[Loaded]) -> float:
        """Real seconds since the first of the campaigns began."""
        begun = min(loaded.begins_at for loaded in campaigns)
        campaign = campaigns[0].campaign
        return max(0.0, (campaign.clock.now() - begun) / 1e6 / campaign.speed)

    def _most_throughput(self, pairs: Sequence[tuple[Loaded, Report]], planned: int) -> float:
        reports = [report for _, report in pairs]
        if sum(report.sent + report.not_sent for report in reports) == planned:
            return inf  # it is what it is by now, and will be judged at the end
        elapsed = self._elapsed([loaded for loaded, _ in pairs])
        return (planned - sum(report.not_sent for report in reports)) / max(elapsed, 1e-6)


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
    place = ceil(percent / 100 * most) - (most - len(took)) - 1
    return float(np.partition(took, place)[place]) / 1e6 if place >= 0 else 0.0


class _Known:
    """The latencies of a campaign's batches that are through: each is read once for the spans to
    the gateway, and once more when it is settled."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._read: dict[bool, set[int]] = {False: set(), True: set()}
        self._took: dict[str, list[Numbers]] = {name: [] for name in SPAN_OF}

    def took(self, span: str) -> Numbers:
        """Microseconds."""
        return np.concatenate([np.empty(0, np.uint32), *self._took[span]])

    def read_on(self, connection: Connection) -> None:
        """Take in the batches that have got through since the last time."""
        campaign = self._loaded.campaign
        ranges: Mapping[int, tuple[int, int]] = {
            row.batch: (row.first, row.size)
            for row in connection.execute(
                sa.select(batches.c.batch, batches.c.first, batches.c.size).where(
                    batches.c.campaign_id == campaign.id
                )
            )
        }
        for settled, read in self._read.items():
            held = self._held(connection, settled)
            for batch in ranges.keys() - held - read:
                read.add(batch)
                passages = read_passages(connection, campaign, *ranges[batch])
                for name, span in SPAN_OF.items():
                    if (span in (TO_OUTCOME, TO_FINAL)) == settled:
                        self._took[name].append(passages.timed(span).took)

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
