"""The result of a run: its figures and what they are judged by."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Connection

from simulator.figures import THROUGHPUT, Figures, is_sampled
from simulator.oracle.credit import WithheldPrediction, predict_withheld
from simulator.oracle.facts import read_recorded_facts
from simulator.oracle.oracle import build_oracles
from simulator.oracle.suppressions import suppress_listed_customers
from simulator.results.anomalies import GatewayAnomalies
from simulator.results.expectations import PARTIAL_CAUSE, ExpectationResult, judge_expectations
from simulator.results.invariants import INVARIANTS
from simulator.results.judgement import are_all_met
from simulator.results.limits.causes import RunLimit
from simulator.results.limits.find import find_limit
from simulator.results.measure import measure_run
from simulator.results.observations import (
    CANCELLED_CAUSE,
    UNOBSERVED_CAUSE,
    RunConditions,
    RunObservations,
)
from simulator.results.prediction_check import PredictionCheck, check_prediction
from simulator.results.thresholds import ThresholdResult, evaluate_thresholds
from simulator.results.timeseries import ARRIVALS, Timeseries
from simulator.results.withheld import WithheldMessages, count_withheld
from simulator.setup.run import Run
from tracker.audit import invariants
from tracker.audit.invariants import InvariantResult
from tracker.clock import to_datetime
from tracker.queries.durations.latencies import DRIVER_LAG, QUEUED_TO_GATEWAY, Span
from tracker.queries.durations.workload import Workload
from tracker.queries.failures import RecordedFailure, read_failures
from tracker.queries.report import Report, make_reports
from tracker.record.actions.log import read_actions
from tracker.record.check_times import CheckTime
from tracker.record.suppressions.snapshot import ListSummary, read_summaries
from tracker.status import Status
from tracker.store.database import Database

RESULT_VERSION = 3
"""Version of the JSON result. It changes when a key changes its meaning or is removed."""

MAX_BACKLOG_SHARE = 0.2
"""Largest share of the messages that may wait before the gateway when the last one arrives."""

MIN_LAG_SECONDS = 1.0
"""Smallest lag of the driver, in real seconds, that is worth a warning."""

MIN_LAG_SHARE = 0.1
"""Smallest share of the latency to the gateway at which the driver's lag is worth a warning."""

BATCH_RESOLUTION = "one batch"
"""Resolution of latencies that end at an instant which all messages of a batch share."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """The result of a run.

    Attributes:
        run: the run with the messages that were sent.
        suppression_lists: those that the run began with, by the organization's name.
        withheld: by the organization's name.
        seconds: real seconds from the first step to the last.
        limit: what kept messages from reaching the gateway earlier.
        batch_spans: spans whose percentiles coincide because whole batches share an instant.
        check_times: the time that each check took, by its name, the longest first.
        curves: the time series at an interval that suits a chart.
    """

    run: Run
    observations: RunObservations
    conditions: RunConditions
    reports: tuple[Report, ...]
    failures: tuple[RecordedFailure, ...]
    prediction_checks: tuple[PredictionCheck, ...]
    invariant_results: tuple[InvariantResult, ...]
    suppression_lists: Mapping[str, ListSummary]
    withheld: Mapping[str, WithheldMessages]
    seconds: float
    figures: Figures
    limit: RunLimit
    batch_spans: tuple[Span, ...]
    workloads: tuple[Workload, ...]
    check_times: Mapping[str, CheckTime]
    thresholds: tuple[ThresholdResult, ...]
    expectations: tuple[ExpectationResult, ...]
    timeseries: Timeseries
    curves: Timeseries

    @property
    def incomparable_figures(self) -> dict[str, str]:
        """Groups of figures that can't be compared with those of other runs, with the cause."""
        return self.observations.find_distorted_groups(self.run.scenario)

    @property
    def unmeasured_figures(self) -> dict[str, str]:
        """Figures without a value because they weren't measured, each with the cause."""
        cause = self.conditions.unavailable_figures
        if self.observations.is_known:
            return cause
        return {name: UNOBSERVED_CAUSE for name in self.figures if is_sampled(name)} | cause

    @property
    def has_driver_lag(self) -> bool:
        """True if the driver's lag distorts latencies; a blast always lags and doesn't count."""
        min_lag = MIN_LAG_SECONDS * self.run.scenario.clock.speed
        for run_campaign in self.run.campaigns:
            lag, latency = (
                self.figures[f"{run_campaign.campaign.name}.{span.name}.p95"] or 0.0
                for span in (DRIVER_LAG, QUEUED_TO_GATEWAY)
            )
            if not run_campaign.plan.arrival_shape.is_blast and lag > max(
                min_lag, MIN_LAG_SHARE * latency
            ):
                return True
        return False

    @property
    def backlog(self) -> int:
        """Messages before the gateway when the last one arrived; 0 if the system kept up.

        It is 0 for a blast, too, as no system keeps up with that.
        """
        if any(run_campaign.plan.arrival_shape.is_blast for run_campaign in self.run.campaigns):
            return 0
        columns = self.timeseries.columns
        waiting = np.cumsum(
            columns[ARRIVALS] - columns[Status.IN_GATEWAY.slug] - columns[Status.NOT_SENT.slug]
        )
        arrived = np.flatnonzero(columns[ARRIVALS])
        last = int(waiting[arrived[-1]]) if len(arrived) else 0
        return last if last > MAX_BACKLOG_SHARE * self.run.size else 0

    @property
    def is_balanced(self) -> bool:
        """True if every report adds up."""
        return all(report.is_balanced for report in self.reports)

    @property
    def is_as_predicted(self) -> bool:
        """True if messages, withheld messages, engagement and anomalies match the prediction."""
        return all(withheld.is_as_predicted for withheld in self.withheld.values()) and all(
            check.is_as_predicted and check.expected_engagement == report.engagement
            for check, report in zip(self.prediction_checks, self.reports, strict=True)
        )

    @property
    def not_predicted(self) -> Counter[str]:
        """Messages that each rule of another package blocked, by its name."""
        return sum((Counter(check.not_predicted) for check in self.prediction_checks), Counter())

    @property
    def has_intact_invariants(self) -> bool:
        """True if every invariant holds."""
        return all(result.is_satisfied for result in self.invariant_results)

    @property
    def is_proven(self) -> bool:
        """True if the reports balance, the invariants hold and all is as predicted."""
        return self.is_balanced and self.is_as_predicted and self.has_intact_invariants

    @property
    def has_passed(self) -> bool:
        """True if the result is proven, complete, and meets its thresholds and expectations."""
        meets_all = are_all_met([*self.thresholds, *self.expectations]) is True
        return self.is_proven and meets_all and not self.observations.is_partial

    def as_json(self) -> dict[str, Any]:
        """Return the result for JSON, as in `summary.json`."""
        aborted = self.observations.aborted_by
        return {
            "version": RESULT_VERSION,
            "run": self.run.id,
            "scenario": self.run.scenario.name,
            "seed": self.run.scenario.seed,
            "state": self.observations.state.value,
            "resumed": len(self.observations.drivers) - 1,
            "aborted_for": None if aborted is None else f"{aborted.figure} {aborted.expression}",
            "started_at": to_datetime(self.run.started_at).isoformat(),
            "speed": self.run.scenario.clock.speed,
            "planned": self.observations.planned,
            "messages": self.run.size,
            "suppressions": {
                name: summary._asdict() for name, summary in self.suppression_lists.items()
            }
            or None,
            "seconds": round(self.seconds, 3),
            "throughput": self.figures[THROUGHPUT],
            "limited_by": self.limit.as_json(),
            "resolution": {span.name: BATCH_RESOLUTION for span in self.batch_spans},
            "not_comparable": self.incomparable_figures,
            **self.conditions.as_json(),
            "absent": self.unmeasured_figures,
            "verdict": self._verdict_as_json(),
            "thresholds": [threshold.as_json() for threshold in self.thresholds],
            "expectations": [expectation.as_json() for expectation in self.expectations],
            "faults": [fault.as_json() for fault in self.observations.injected_faults],
            "actions": [action.as_json() for action in self.observations.actions],
            "recovery": {"sent_on": self.observations.requeued_count},
            "snapshots": self.observations.snapshot_count,
            "figures": dict(self.figures),
            "rejects": self._rejects_as_json(),
            "campaigns": [report.as_json() for report in self.reports],
            "check_times": {
                name: {"calls": round(time.calls), "seconds": round(time.seconds, 3)}
                for name, time in self.check_times.items()
            },
            "failures": [failure.as_json() for failure in self.failures],
            "prediction": self._prediction_as_json(),
            "invariants": [result.as_json() for result in self.invariant_results],
            "definition": self.run.scenario.text,
        }

    def _rejects_as_json(self) -> list[dict[str, str | int]]:
        return [
            {
                "audience": audience.audience.name,
                "rows": audience.rejects,
                "file": str(audience.rejects_file),
            }
            for audience in self.run.imports
            if audience.rejects
        ]

    def _verdict_as_json(self) -> dict[str, bool | None]:
        return {
            "passed": self.has_passed,
            "balanced": self.is_balanced,
            "invariants_hold": self.has_intact_invariants,
            "as_predicted": self.is_as_predicted,
            "thresholds_met": are_all_met(self.thresholds),
            "expectations_met": are_all_met(self.expectations),
        }

    def _prediction_as_json(self) -> dict[str, Any]:
        return {
            "withheld": {name: asdict(withheld) for name, withheld in self.withheld.items()},
            "not_predicted": dict(self.not_predicted),
            "campaigns": [
                check.as_json(run_campaign.campaign.name)
                for run_campaign, check in zip(
                    self.run.campaigns, self.prediction_checks, strict=True
                )
            ],
        }


def judge_run(
    database: Database, run: Run, observations: RunObservations, conditions: RunConditions
) -> RunResult:
    """Read the messages of a run, and compare them with the prediction and the thresholds."""
    with database.read_only_analytics() as connection:
        campaigns = run.recorded_campaigns
        actions = read_actions(connection, limit=None, run_id=run.id)
        observations = replace(observations, actions=actions[::-1])
        reports = make_reports(connection, campaigns)
        if observations.is_partial:
            run = run.limited_to([report.recorded for report in reports])
        withheld, checks = _check_predictions(connection, run, observations, conditions)
        if observations.is_partial:  # a partial run doesn't wait for engagement
            checks = [
                replace(check, expected_engagement=report.engagement)
                for check, report in zip(checks, reports, strict=True)
            ]
        anomalies = sum((check.observed_anomalies for check in checks), GatewayAnomalies())
        measured = measure_run(connection, run, reports, anomalies, observations)
        # They come last, so that the memory of SQLite's sorts isn't added to that of the figures.
        results = invariants.check_invariants(connection, campaigns, INVARIANTS)
        return RunResult(
            run=run,
            observations=observations,
            conditions=conditions,
            reports=tuple(reports),
            failures=tuple(read_failures(connection, run.campaign_ids)),
            prediction_checks=tuple(checks),
            invariant_results=(*results, *observations.balance_findings),
            suppression_lists=read_summaries(connection, run.id),
            withheld=count_withheld(run, withheld, checks, observations),
            thresholds=evaluate_thresholds(
                run.scenario.thresholds,
                measured.figures,
                observations.aborted_by,
                observations.find_unjudged_figures(run.scenario),
            ),
            expectations=judge_expectations(
                connection, run, checks, unjudged_reason=_explain_unjudged(observations)
            ),
            seconds=measured.seconds,
            figures=measured.figures,
            limit=find_limit(run, observations, conditions, measured.sending),
            batch_spans=measured.batch_spans,
            workloads=measured.workloads,
            check_times=measured.check_times,
            timeseries=measured.timeseries,
            curves=measured.curves,
        )


def _explain_unjudged(observations: RunObservations) -> str | None:
    """Return why the expectations of a run can't be judged, or None."""
    if observations.is_partial:
        return PARTIAL_CAUSE
    return CANCELLED_CAUSE if observations.has_cancelled else None


def _check_predictions(
    connection: Connection, run: Run, observations: RunObservations, conditions: RunConditions
) -> tuple[Mapping[str | None, WithheldPrediction], list[PredictionCheck]]:
    """Return the messages to be withheld by organization, and each campaign's prediction check."""
    campaigns = suppress_listed_customers(connection, run.id, run.campaigns)
    facts = read_recorded_facts(connection, campaigns, ZoneInfo(conditions.timezone))
    oracles = build_oracles(campaigns, facts)
    withheld = predict_withheld(oracles)
    checks = [
        check_prediction(
            connection,
            run_campaign,
            oracle,
            scarce_channels=withheld[run_campaign.plan.organization_key].scarce_channels,
            is_unfinished=not observations.has_settled,
        )
        for run_campaign, oracle in zip(run.campaigns, oracles, strict=True)
    ]
    return withheld, checks
