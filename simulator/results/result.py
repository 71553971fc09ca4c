"""What came of a run: figures from the rows, and the judgement of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from simulator.figures import THROUGHPUT, WORKERS_CPU, WORKERS_MEMORY, Figures
from simulator.oracle.oracle import WithheldPrediction, build_oracles, predict_withheld
from simulator.results.invariants import INVARIANTS
from simulator.results.measure import measure_run
from simulator.results.prediction_check import GatewayAnomalies, PredictionCheck, check_prediction
from simulator.results.samples import Sample
from simulator.results.timeseries import ARRIVALS, Timeseries
from simulator.scenario.faults import InjectedFault
from simulator.scenario.thresholds import Threshold, ThresholdResult, evaluate_thresholds
from simulator.setup.record import AudienceRejects, Run
from tracker.audit import invariants
from tracker.audit.invariants import InvariantResult
from tracker.clock import to_datetime
from tracker.queries.latencies import DRIVER_LAG, QUEUED_TO_GATEWAY
from tracker.queries.report import Report, make_reports
from tracker.queries.workload import Workload
from tracker.status import OPT_OUTS, Status
from tracker.store.database import Database

RESULT_VERSION = 2
"""Version of the JSON result. It changes when a key changes its meaning or goes."""


class RunState(StrEnum):
    """How far a run got. All but a complete one have a partial result."""

    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    ABORTED = "aborted"


@dataclass(frozen=True, kw_only=True)
class RunConditions:
    """Under which a run was made: with what, besides its scenario."""

    workers: int | None
    batch_size: int
    database: str
    durability: Mapping[str, str]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    timezone: str
    log: Path | None = None

    @property
    def unavailable_figures(self) -> dict[str, str]:
        """What can't be known, and why."""
        if self.workers is not None:
            return {}
        why = "the workers were attached: what they use can't be read from here"
        return dict.fromkeys((WORKERS_CPU, WORKERS_MEMORY), why)

    def as_json(self) -> dict[str, Any]:
        return {
            "workers": self.workers,
            "batch_size": self.batch_size,
            "database": self.database,
            "timezone": self.timezone,
            "durability": dict(self.durability),
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "absent": self.unavailable_figures,
        }


@dataclass(frozen=True, kw_only=True)
class RunObservations:
    """What was seen of a run from outside its record.

    ``planned`` messages were to be sent; ``samples`` were taken once a second, and ``aborted_by`` is
    the threshold for which it was ended. Batches were ``requeued_count`` so often as they stood still. Of
    so many ``snapshot_count`` of reports, some were ``unbalanced_reports``. ``injected_faults`` are the faults.
    """

    state: RunState
    planned: int
    samples: Sequence[Sample] = ()
    aborted_by: Threshold | None = None
    requeued_count: int = 0
    snapshot_count: int = 0
    unbalanced_reports: Sequence[Report] = ()
    injected_faults: Sequence[InjectedFault] = ()

    @property
    def balance_finding(self) -> InvariantResult:
        """Whether the report balanced whenever it was looked at."""
        examples = tuple(
            each.as_json() for each in self.unbalanced_reports[: invariants.MAX_EXAMPLES]
        )
        return InvariantResult(SNAPSHOTS_BALANCE, len(self.unbalanced_reports), examples)


@dataclass(frozen=True, kw_only=True)
class WithheldMessages:
    """Messages that credit or message limit stopped; ``predicted`` is None where it was unknown."""

    predicted: int | None
    actual: int

    @property
    def is_as_predicted(self) -> bool:
        return self.predicted in (None, self.actual)


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """All that is known of a run. ``run`` has the campaigns as far as their messages were sent;
    ``curves`` is ``timeseries`` at an interval that fits a picture."""

    run: Run
    observations: RunObservations
    conditions: RunConditions
    reports: tuple[Report, ...]
    prediction_checks: tuple[PredictionCheck, ...]
    invariant_results: tuple[InvariantResult, ...]
    withheld: Mapping[str, WithheldMessages]
    seconds: float
    figures: Figures
    workloads: tuple[Workload, ...]
    thresholds: tuple[ThresholdResult, ...]
    timeseries: Timeseries
    curves: Timeseries

    @property
    def is_partial(self) -> bool:
        return self.observations.state is not RunState.COMPLETE

    @property
    def has_met_thresholds(self) -> bool:
        return all(each.is_met for each in self.thresholds)

    @property
    def has_driver_lag(self) -> bool:
        """Whether the driver came so late that it shows in the latencies.

        All of a blast is meant to arrive at once, and can't.
        """
        least = MIN_LAG_SECONDS * self.run.scenario.clock.speed
        for loaded in self.run.campaigns:
            lag, latency = (
                self.figures[f"{loaded.campaign.name}.{span.name}.p95"] or 0.0
                for span in (DRIVER_LAG, QUEUED_TO_GATEWAY)
            )
            if not loaded.plan.arrival_shape.is_blast and lag > max(least, MIN_LAG_SHARE * latency):
                return True
        return False

    @property
    def backlog(self) -> int:
        """Messages that had not reached the gateway when the last one arrived, if those were so
        many that the system can't be said to have kept up; 0 otherwise.

        Of a blast nobody expects that.
        """
        if any(loaded.plan.arrival_shape.is_blast for loaded in self.run.campaigns):
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
        return all(report.is_balanced for report in self.reports)

    @property
    def is_as_predicted(self) -> bool:
        """Every message as the oracle said, as many withheld, who did something, and mishaps."""
        return all(each.is_as_predicted for each in self.withheld.values()) and all(
            comparison.is_as_predicted and comparison.expected_engagement == report.engagement
            for comparison, report in zip(self.prediction_checks, self.reports, strict=True)
        )

    @property
    def has_intact_invariants(self) -> bool:
        return all(finding.is_satisfied for finding in self.invariant_results)

    @property
    def is_proven(self) -> bool:
        """Whether it adds up and is as predicted, as far as it got."""
        return self.is_balanced and self.is_as_predicted and self.has_intact_invariants

    @property
    def has_passed(self) -> bool:
        return self.is_proven and self.has_met_thresholds and not self.is_partial

    def as_json(self) -> dict[str, Any]:
        """The result as other programs read it, and as ``summary.json``: see docs/results.md."""
        aborted = self.observations.aborted_by
        return {
            "version": RESULT_VERSION,
            "run": self.run.id,
            "scenario": self.run.scenario.name,
            "seed": self.run.scenario.seed,
            "state": self.observations.state.value,
            "aborted_for": None if aborted is None else f"{aborted.figure} {aborted.expression}",
            "started_at": to_datetime(self.run.started_at).isoformat(),
            "speed": self.run.scenario.clock.speed,
            "planned": self.observations.planned,
            "messages": self.run.size,
            "seconds": round(self.seconds, 3),
            "throughput": self.figures[THROUGHPUT],
            **self.conditions.as_json(),
            "verdict": {
                "passed": self.has_passed,
                "balanced": self.is_balanced,
                "invariants_hold": self.has_intact_invariants,
                "as_predicted": self.is_as_predicted,
                "thresholds_met": self.has_met_thresholds,
            },
            "thresholds": [each.as_json() for each in self.thresholds],
            "faults": [each.as_json() for each in self.observations.injected_faults],
            "recovery": {"sent_on": self.observations.requeued_count},
            "snapshots": self.observations.snapshot_count,
            "figures": dict(self.figures),
            "rejects": [_rejects_as_json(each) for each in self.run.rejects],
            "campaigns": [report.as_json() for report in self.reports],
            "prediction": self._prediction_as_json(),
            "invariants": [finding.as_json() for finding in self.invariant_results],
            "definition": self.run.scenario.text,
        }

    def _prediction_as_json(self) -> dict[str, Any]:
        return {
            "withheld": {name: vars(each) for name, each in self.withheld.items()},
            "campaigns": [
                {
                    "campaign": loaded.campaign.name,
                    "messages": each.messages,
                    "as_predicted": each.matching,
                    "uncertain": each.uncertain,
                    "unsettled": each.unsettled,
                    "engagement": {
                        kind.slug: count for kind, count in sorted(each.expected_engagement.items())
                    },
                    "gateway": {
                        "predicted": vars(each.expected_anomalies),
                        "actual": vars(each.observed_anomalies),
                    },
                    "refusals": {
                        kind.slug: each.expected_engagement[kind] for kind in sorted(OPT_OUTS)
                    },
                    "differences": [vars(difference) for difference in each.differences],
                    "fates": each.outcome_digest,
                }
                for loaded, each in zip(self.run.campaigns, self.prediction_checks, strict=True)
            ],
        }


SNAPSHOTS_BALANCE = invariants.Invariant(
    name="snapshots_balance",
    claim="The report balanced whenever it was looked at during the run.",
)

MAX_BACKLOG_SHARE = 0.2
"""Share of the messages that may be on their way to the gateway when the last one arrives."""

MIN_LAG_SECONDS, MIN_LAG_SHARE = 1.0, 0.1
"""The driver's lag matters from a real second on that is a tenth of what messages take."""


def _rejects_as_json(rejects: AudienceRejects) -> dict[str, Any]:
    return {
        "audience": rejects.audience.name,
        "rows": rejects.count,
        "file": str(rejects.file),
    }


def judge_run(
    database: Database, run: Run, observed: RunObservations, conditions: RunConditions
) -> RunResult:
    """Read a run back from the rows, and hold it against what was predicted and demanded."""
    partial = observed.state is not RunState.COMPLETE
    with database.read_only_analytics() as connection:
        reports = make_reports(connection, [loaded.campaign for loaded in run.campaigns])
        if partial:
            run = run.limited_to([report.audience for report in reports])
        campaigns = [loaded.campaign for loaded in run.campaigns]
        oracles = build_oracles(run.campaigns)
        expected = predict_withheld(oracles)
        comparisons = [
            check_prediction(
                connection,
                loaded,
                oracle,
                credit_is_scarce=expected[loaded.plan.organization_key].credit_is_scarce,
                is_unfinished=observed.state is RunState.ABORTED,
            )
            for loaded, oracle in zip(run.campaigns, oracles, strict=True)
        ]
        if partial:  # what recipients do was not waited for
            comparisons = [
                replace(comparison, expected_engagement=report.engagement)
                for comparison, report in zip(comparisons, reports, strict=True)
            ]
        findings = invariants.check_invariants(connection, campaigns, INVARIANTS)
        findings.append(observed.balance_finding)
        mishaps = sum((each.observed_anomalies for each in comparisons), GatewayAnomalies())
        measured = measure_run(connection, run, reports, mishaps, observed.samples)
        return RunResult(
            run=run,
            observations=observed,
            conditions=conditions,
            reports=tuple(reports),
            prediction_checks=tuple(comparisons),
            invariant_results=tuple(findings),
            withheld=_count_withheld(run, expected, comparisons, partial=partial),
            thresholds=evaluate_thresholds(
                run.scenario.thresholds, measured.figures, observed.aborted_by
            ),
            **vars(measured),
        )


def _count_withheld(
    run: Run,
    expected: Mapping[str | None, WithheldPrediction],
    comparisons: Sequence[PredictionCheck],
    *,
    partial: bool,
) -> dict[str, WithheldMessages]:
    """What credit and message limit stopped, by the organization's name."""
    # Whom of a part of the messages a limit meets depends on who came first.
    plans = [loaded.plan for loaded in run.campaigns]
    limited = partial and any(plan.organization.message_limit is not None for plan in plans)
    names = {plan.organization_key: plan.organization.name for plan in plans}
    return {
        names[key]: WithheldMessages(
            predicted=None if limited else allowance.withheld,
            actual=sum(
                comparison.withheld
                for plan, comparison in zip(plans, comparisons, strict=True)
                if plan.organization_key == key
            ),
        )
        for key, allowance in expected.items()
    }
