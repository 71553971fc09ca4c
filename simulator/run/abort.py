"""Abort check: find a threshold that a run can no longer meet.

For each figure the check computes the range of values that it can still end at, whatever the rest
of the run does. A run is aborted only if no value of that range meets the threshold.
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
    find_speed_group,
    split_figure_name,
)
from simulator.results.measure import read_elapsed_seconds, read_ledger_figures
from simulator.scenario.thresholds import Threshold
from simulator.setup.run import Run, RunCampaign
from tracker.campaign_states import CampaignState
from tracker.clock import to_seconds
from tracker.queries.durations.latencies import (
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
"""The smallest and the largest value that a figure can still end at."""

NON_DECREASING_COUNTS = frozenset(
    name
    for name in MESSAGE_COUNTS
    if name.split(".")[0] in ("sent", "not_sent", "not_delivered", "opened", "clicked")
) | {"bounced.hard", "spam", "unsubscribed", MESSAGE_TOTAL}

SPANS_AFTER_ACCEPTANCE = (GATEWAY_TO_OUTCOME, QUEUED_TO_FINAL)

SPANS_BY_NAME = {span.name: span for span in SPANS if span.name in LATENCY_SPANS}


class AbortCheck:
    """A check of the thresholds of a run that have `abort = true`. It is false without any.

    Thresholds on the speed of a run can't be judged if it was resumed or a campaign was paused, so
    they don't abort it. None can be judged once a campaign was cancelled.
    """

    def __init__(self, run: Run) -> None:
        names = [run_campaign.campaign.name for run_campaign in run.campaigns]
        self._run = run
        self._has_paused = False
        self._thresholds = [
            threshold
            for threshold in run.scenario.thresholds
            if threshold.should_abort
            and (run.resumption is None or find_speed_group(threshold.figure, names) is None)
        ]
        self._campaign_names = names
        self._import_figures = run.import_figures
        self._latencies_by_campaign = {
            run_campaign.campaign.name: _FinishedLatencies(
                run_campaign, self._select_spans(run_campaign.campaign.name)
            )
            for run_campaign in run.campaigns
        }

    def __bool__(self) -> bool:
        return bool(self._thresholds)

    def _select_spans(self, campaign: str) -> set[Span]:
        """Return the spans of a campaign that thresholds refer to."""
        names = set[str]()
        for threshold in self._thresholds:
            owner, figure = split_figure_name(threshold.figure, self._campaign_names)
            if owner in (None, campaign):
                names.add(figure.partition(".")[0])
        return {span for name, span in SPANS_BY_NAME.items() if name in names}

    def find_unreachable_threshold(
        self, connection: Connection, reports: Sequence[Report]
    ) -> Threshold | None:
        """Return the first threshold that can't be met any more, or None."""
        if any(report.state is CampaignState.CANCELLED for report in reports):
            return None
        for latencies in self._latencies_by_campaign.values():
            latencies.read_finished_batches(connection)
        self._has_paused |= any(report.state is CampaignState.PAUSED for report in reports)
        for threshold in self._thresholds:
            is_of_speed = find_speed_group(threshold.figure, self._campaign_names) is not None
            if is_of_speed and self._has_paused:
                continue
            lowest, highest = self._compute_range(connection, threshold.figure, reports)
            if not threshold.can_be_met_within(lowest, highest):
                return threshold
        return None

    def _compute_range(
        self, connection: Connection, figure: str, reports: Sequence[Report]
    ) -> FigureRange:
        owner, name = split_figure_name(figure, self._campaign_names)
        pairs = [
            (run_campaign, report)
            for run_campaign, report in zip(self._run.campaigns, reports, strict=True)
            if owner in (None, run_campaign.campaign.name)
        ]
        owned_reports = [report for _, report in pairs]
        planned = sum(run_campaign.size for run_campaign, _ in pairs)
        span, _, percentile = name.partition(".")
        if span in SPANS_BY_NAME and percentile in PERCENTILES:
            latencies = [
                self._latencies_by_campaign[run_campaign.campaign.name] for run_campaign, _ in pairs
            ]
            percent = PERCENTILES[percentile]
            return _compute_min_percentile(latencies, span, percent, owned_reports, planned), inf
        if name == RUN_SECONDS:
            return read_elapsed_seconds(connection, self._run), inf
        if name in LEDGER_FIGURES:
            ids = [report.campaign.id for report in owned_reports]
            return float(read_ledger_figures(connection, ids)[name]), inf
        if name in self._import_figures:
            value = self._import_figures[name]
            return (0.0, 0.0) if value is None else (value, value)
        count_name = name.removesuffix(".share")
        lowest, highest = _compute_count_range(count_name, owned_reports, planned)
        total = planned if count_name != name else 1
        return lowest / total, highest / total


def _compute_count_range(name: str, reports: Sequence[Report], planned: int) -> FigureRange:
    current = count_messages(reports)[name]
    unrecorded = planned - sum(report.recorded for report in reports)
    undecided = unrecorded + sum(report.in_progress for report in reports)
    unsettled = planned - sum(report.settled for report in reports)
    lowest = current if name in NON_DECREASING_COUNTS else 0
    if name.split(".")[0] in ("sent", "not_sent"):
        return lowest, current + undecided
    if name in ("delivered", "not_delivered"):
        return lowest, current + unsettled
    return lowest, planned


def _compute_min_percentile(
    latencies: Sequence["_FinishedLatencies"],
    span: str,
    percent: float,
    reports: Sequence[Report],
    planned: int,
) -> float:
    """Return a percentile, in seconds, if all latencies that aren't known yet are zero."""
    durations = np.concatenate([finished.durations(span) for finished in latencies])
    count = planned - sum(report.not_sent for report in reports)
    if span == GATEWAY_TO_OUTCOME.name:
        count *= max(report.campaign.attempts for report in reports)
    elif span == QUEUED_TO_FINAL.name:
        count = planned
    count = max(count, len(durations))
    index = int(percentile_rank(percent, count)) - (count - len(durations)) - 1
    return to_seconds(float(np.partition(durations, index)[index])) if index >= 0 else 0.0


class _FinishedLatencies:
    """Latencies of a campaign's finished batches, each read once.

    A batch is finished for the spans up to the gateway when the gateway has accepted all of it, and
    for the others when it has settled.
    """

    def __init__(self, run_campaign: RunCampaign, spans: Collection[Span]) -> None:
        self._run_campaign = run_campaign
        self._durations: dict[str, list[IntegerArray]] = {span.name: [] for span in spans}
        self._spans_by_settled = {
            settled: [span for span in spans if (span in SPANS_AFTER_ACCEPTANCE) == settled]
            for settled in (False, True)
        }
        self._read_batches: dict[bool, set[int]] = {False: set(), True: set()}

    def durations(self, span: str) -> IntegerArray:
        """Return the latencies in a span, in microseconds."""
        return np.concatenate([np.empty(0, np.uint32), *self._durations[span]])

    def read_finished_batches(self, connection: Connection) -> None:
        """Add the latencies of batches that have finished since the previous call."""
        rows = connection.execute(
            sa.select(batches.c.batch, batches.c.first, batches.c.size)
            .where(batches.c.campaign_id == self._run_campaign.campaign.id)
            .order_by(batches.c.batch)
        ).all()
        for settled, spans in self._spans_by_settled.items():
            if not spans:
                continue
            read = self._read_batches[settled]
            excluded = read | self._find_unfinished_batches(connection, settled)
            finished = [row for row in rows if row.batch not in excluded]
            read |= {row.batch for row in finished}
            self._read_latencies(connection, spans, [(row.first, row.size) for row in finished])

    def _read_latencies(
        self, connection: Connection, spans: Sequence[Span], ranges: Sequence[tuple[int, int]]
    ) -> None:
        campaign = self._run_campaign.campaign
        for first, size in _merge_ranges(ranges):
            times = read_transition_times(connection, campaign, first, size)
            for span in spans:
                self._durations[span.name].append(times.span_times(span).durations)

    def _find_unfinished_batches(self, connection: Connection, settled: bool) -> set[int]:
        """Return the batches with messages that are not yet accepted or, if asked, settled."""
        attempts = self._run_campaign.campaign.attempts
        is_unfinished: sa.ColumnElement[bool] = tallies.c.status.in_(IN_PROGRESS_STATUSES)
        if settled:
            is_retried = sa.and_(
                tallies.c.status == Status.SOFT_BOUNCED, tallies.c.attempt < attempts
            )
            is_in_gateway = tallies.c.status == Status.IN_GATEWAY
            is_unfinished = sa.or_(is_unfinished, is_in_gateway, is_retried)
        return set(
            connection.scalars(
                sa.select(tallies.c.batch)
                .where(
                    tallies.c.campaign_id == self._run_campaign.campaign.id,
                    tallies.c.messages > 0,
                    is_unfinished,
                )
                .distinct()
            )
        )


def _merge_ranges(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield ranges of messages, as first and size, with adjacent ones joined."""
    current: tuple[int, int] | None = None
    for first, size in ranges:
        if current is not None and first == sum(current):
            current = (current[0], current[1] + size)
            continue
        if current is not None:
            yield current
        current = (first, size)
    if current is not None:
        yield current
