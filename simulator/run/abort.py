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
    LATENCY_SPANS,
    LEDGER_FIGURES,
    MESSAGE_COUNTS,
    MESSAGE_TOTAL,
    PERCENTILES,
    RUN_SECONDS,
    count_messages,
    split_figure_name,
)
from simulator.results.measure import read_elapsed_seconds
from simulator.scenario.thresholds import Threshold
from simulator.setup.record import Run, RunCampaign
from simulator.world import ledger
from tracker.clock import to_seconds
from tracker.queries.latencies import (
    GATEWAY_TO_OUTCOME,
    QUEUED_TO_FINAL,
    SPANS,
    IntegerArray,
    Span,
    percentile_rank,
    read_transition_times,
)
from tracker.queries.report import Report
from tracker.status import IN_PROGRESS_STATUSES, Status
from tracker.store.schema.catalog import batches
from tracker.store.schema.messages import tallies

FigureRange = tuple[float, float]
"""The least and the most that a figure can end as."""

NON_DECREASING_COUNTS = frozenset(
    name
    for name in MESSAGE_COUNTS
    if name.split(".")[0] in ("sent", "not_sent", "not_delivered", "opened", "clicked")
) | {"bounced.hard", "spam", "unsubscribed", MESSAGE_TOTAL}
"""Counts that never become less."""

SPANS_AFTER_ACCEPTANCE = (GATEWAY_TO_OUTCOME, QUEUED_TO_FINAL)
"""Spans that go beyond the gateway's acceptance."""

SPANS_BY_NAME = {span.name: span for span in SPANS if span.name in LATENCY_SPANS}


class AbortCheck:
    """Looks, while a run goes on, which of its thresholds can't be met any more."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._thresholds = [each for each in run.scenario.thresholds if each.abort]
        self._campaign_names = [loaded.campaign.name for loaded in run.campaigns]
        self._latencies_by_campaign = {
            loaded.campaign.name: _FinishedLatencies(loaded, self._spans(loaded.campaign.name))
            for loaded in run.campaigns
        }

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self._thresholds)

    def _spans(self, campaign: str) -> set[Span]:
        """The spans of a campaign that thresholds are on."""
        figures = (
            split_figure_name(each.figure, self._campaign_names) for each in self._thresholds
        )
        names = (name.partition(".")[0] for of, name in figures if of in (None, campaign))
        return {SPANS_BY_NAME[name] for name in names if name in SPANS_BY_NAME}

    def look(self, connection: Connection, reports: Sequence[Report]) -> Threshold | None:
        """The first threshold that can't be met any more, with the run as far as ``reports``."""
        for known in self._latencies_by_campaign.values():
            known.read_finished_batches(connection)
        for threshold in self._thresholds:
            least, most = self._compute_range(connection, threshold.figure, reports)
            if not threshold.can_be_met_within(least, most):
                return threshold
        return None

    def _compute_range(
        self, connection: Connection, figure: str, reports: Sequence[Report]
    ) -> FigureRange:
        campaign, name = split_figure_name(figure, self._campaign_names)
        pairs = [
            (loaded, report)
            for loaded, report in zip(self._run.campaigns, reports, strict=True)
            if campaign in (None, loaded.campaign.name)
        ]
        of = [report for _, report in pairs]
        planned = sum(loaded.size for loaded, _ in pairs)
        span, _, percentile = name.partition(".")
        if span in SPANS_BY_NAME and percentile in PERCENTILES:
            known = [self._latencies_by_campaign[loaded.campaign.name] for loaded, _ in pairs]
            return _compute_min_percentile(known, span, PERCENTILES[percentile], of, planned), inf
        if name == RUN_SECONDS:
            return read_elapsed_seconds(connection, self._run), inf
        if name in LEDGER_FIGURES:
            found = ledger.counts(connection, [each.campaign.id for each in of])
            return float(getattr(found, name.removeprefix("gateway."))), inf
        count = name.removesuffix(".share")
        least, most = _compute_count_range(count, of, planned)
        per = planned if count != name else 1
        return least / per, most / per


def _compute_count_range(name: str, reports: Sequence[Report], planned: int) -> FigureRange:
    now = count_messages(reports)[name]
    to_be_recorded = planned - sum(report.audience for report in reports)
    undecided = to_be_recorded + sum(report.in_progress for report in reports)
    unsettled = planned - sum(report.settled for report in reports)
    least = now if name in NON_DECREASING_COUNTS else 0
    if name.split(".")[0] in ("sent", "not_sent"):
        return least, now + undecided
    if name in ("delivered", "not_delivered"):
        return least, now + unsettled
    return least, planned


def _compute_min_percentile(
    known: Sequence["_FinishedLatencies"],
    span: str,
    percent: float,
    reports: Sequence[Report],
    planned: int,
) -> float:
    """What a percentile comes to if all that is not known yet takes no time at all."""
    took = np.concatenate([each.took(span) for each in known])
    most = planned - sum(report.not_sent for report in reports)
    if span == GATEWAY_TO_OUTCOME.name:
        most *= max(report.campaign.attempts for report in reports)
    elif span == QUEUED_TO_FINAL.name:
        most = planned
    most = max(most, len(took))
    place = int(percentile_rank(percent, most)) - (most - len(took)) - 1
    return to_seconds(float(np.partition(took, place)[place])) if place >= 0 else 0.0


class _FinishedLatencies:
    """The latencies, in some spans, of a campaign's batches that are through: those to the gateway
    once a batch is handed over, the others once it is settled. Each is read once."""

    def __init__(self, loaded: RunCampaign, spans: Collection[Span]) -> None:
        self._loaded = loaded
        self._durations: dict[str, list[IntegerArray]] = {span.name: [] for span in spans}
        self._spans = {
            settled: [span for span in spans if (span in SPANS_AFTER_ACCEPTANCE) == settled]
            for settled in (False, True)
        }
        self._read_batches: dict[bool, set[int]] = {False: set(), True: set()}

    def took(self, span: str) -> IntegerArray:
        """Microseconds."""
        return np.concatenate([np.empty(0, np.uint32), *self._durations[span]])

    def read_finished_batches(self, connection: Connection) -> None:
        """Take in batches that have got through since the last time."""
        rows = connection.execute(
            sa.select(batches.c.batch, batches.c.first, batches.c.size)
            .where(batches.c.campaign_id == self._loaded.campaign.id)
            .order_by(batches.c.batch)
        ).all()
        for settled, spans in self._spans.items():
            if not spans:
                continue
            read = self._read_batches[settled]
            out = read | self._find_unfinished_batches(connection, settled)
            through = [(first, size) for batch, first, size in rows if batch not in out]
            read |= {batch for batch, _, _ in rows if batch not in out}
            for first, size in _merge_ranges(through):
                passages = read_transition_times(connection, self._loaded.campaign, first, size)
                for span in spans:
                    self._durations[span.name].append(passages.timed(span).took)

    def _find_unfinished_batches(self, connection: Connection, settled: bool) -> set[int]:
        """Batches some of whose messages have yet to be handed over, or to be settled."""
        attempts = self._loaded.campaign.attempts
        waits: sa.ColumnElement[bool] = tallies.c.status.in_(IN_PROGRESS_STATUSES)
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


def _merge_ranges(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
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
