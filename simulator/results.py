"""What came of a run: figures from the rows, and the judgement of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection

from simulator import ledger, ledger_audit
from simulator.comparison import Comparison, Mishaps, compare
from simulator.load import Rejects, Run
from simulator.oracle import CHUNK, allowances
from tracker import audit
from tracker.audit import Finding
from tracker.clock import Instant
from tracker.database import Database
from tracker.report import Report, make_reports
from tracker.schema import messages, steps, transitions
from tracker.status import FINAL, REFUSALS, Status

PERCENTILES = (50, 95, 99)

RESULT_VERSION = 1
"""Version of the JSON result. It changes when a key changes its meaning or goes."""


@dataclass(frozen=True)
class Latencies:
    """Exact latencies of many messages: microseconds, ascending, and how many had each.

    A value may stand several times. Two arrays of one length hold a million in 16 MB.
    """

    values: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, pairs: Sequence[NDArray[np.int64]]) -> "Latencies":
        """From arrays of the shape (n, 2): a latency, and how many messages had it."""
        values, counts = np.concatenate([np.empty((0, 2), np.int64), *pairs]).T
        order = np.argsort(values)
        return cls(values[order], counts[order])

    def percentile(self, percent: float) -> float | None:
        """The smallest latency, in seconds, that ``percent`` of the messages do not exceed."""
        if not len(self.values):
            return None
        total = np.cumsum(self.counts)
        rank = np.ceil(percent / 100 * total[-1])
        return float(self.values[np.searchsorted(total, rank)]) / 1e6

    def as_json(self) -> dict[str, float | None]:
        return {f"p{percent}": self.percentile(percent) for percent in PERCENTILES}


@dataclass(frozen=True, kw_only=True)
class Withheld:
    """Messages that credit or message limit stopped; ``predicted`` is None where it was unknown."""

    predicted: int | None
    actual: int

    @property
    def as_predicted(self) -> bool:
        return self.predicted in (None, self.actual)


@dataclass(frozen=True, kw_only=True)
class Result:
    """All that is known of a finished run; ``log`` is that of its workers, if they were its own."""

    run: Run
    reports: tuple[Report, ...]
    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding, ...]
    withheld: Mapping[str, Withheld]
    gateway: ledger.Counts
    seconds: float
    queued_to_gateway: Latencies
    queued_to_final: Latencies
    workers: int | None
    batch_size: int
    database: str
    log: Path | None = None

    @property
    def throughput(self) -> float:
        """Messages settled a second, from the first row to the last."""
        return self.run.size / self.seconds if self.seconds else 0.0

    @property
    def balanced(self) -> bool:
        return all(report.balanced for report in self.reports)

    @property
    def as_predicted(self) -> bool:
        """Every message as the oracle said, as many withheld, who did something, and mishaps."""
        return all(each.as_predicted for each in self.withheld.values()) and all(
            comparison.as_predicted == comparison.messages
            and comparison.engagement == report.engagement
            and comparison.observed == comparison.expected
            for comparison, report in zip(self.comparisons, self.reports, strict=True)
        )

    @property
    def mishaps(self) -> Mishaps:
        """What went wrong between the gateways and the record, of all campaigns."""
        return sum((each.observed for each in self.comparisons), Mishaps())

    @property
    def invariants_hold(self) -> bool:
        return all(finding.holds for finding in self.findings)

    @property
    def passed(self) -> bool:
        return self.balanced and self.as_predicted and self.invariants_hold

    def as_json(self) -> dict[str, Any]:
        return {
            "version": RESULT_VERSION,
            "scenario": self.run.scenario.name,
            "seed": self.run.scenario.seed,
            "run": self.run.id,
            "workers": self.workers,
            "batch_size": self.batch_size,
            "database": self.database,
            "messages": self.run.size,
            "seconds": round(self.seconds, 3),
            "throughput": round(self.throughput, 1),
            "queued_to_gateway": self.queued_to_gateway.as_json(),
            "queued_to_final": self.queued_to_final.as_json(),
            "gateway": {**vars(self.gateway), **vars(self.mishaps)},
            "rejects": [_rejects_as_json(each) for each in self.run.rejects],
            "campaigns": [report.as_json() for report in self.reports],
            "prediction": {
                "withheld": {name: vars(each) for name, each in self.withheld.items()},
                "campaigns": [
                    {
                        "campaign": loaded.campaign.name,
                        "messages": each.messages,
                        "as_predicted": each.as_predicted,
                        "uncertain": each.uncertain,
                        "engagement": {
                            kind.slug: count for kind, count in sorted(each.engagement.items())
                        },
                        "gateway": {
                            "predicted": vars(each.expected),
                            "actual": vars(each.observed),
                        },
                        "refusals": {kind.slug: each.engagement[kind] for kind in sorted(REFUSALS)},
                        "differences": [vars(difference) for difference in each.differences],
                        "fates": each.fates,
                    }
                    for loaded, each in zip(self.run.campaigns, self.comparisons, strict=True)
                ],
            },
            "invariants": [finding.as_json() for finding in self.findings],
            "verdict": {
                "balanced": self.balanced,
                "invariants_hold": self.invariants_hold,
                "as_predicted": self.as_predicted,
                "passed": self.passed,
            },
        }


def _rejects_as_json(rejects: Rejects) -> dict[str, Any]:
    return {
        "audience": rejects.audience.name,
        "rows": rejects.count,
        "file": str(rejects.file),
    }


def judge_run(
    database: Database,
    run: Run,
    *,
    workers: int | None,
    batch_size: int,
    log: Path | None = None,
) -> Result:
    """Read a finished run back from the rows, and hold it against what was predicted."""
    campaigns = [loaded.campaign for loaded in run.campaigns]
    ids = [campaign.id for campaign in campaigns]
    expected = allowances(run.scenario, [loaded.oracle for loaded in run.campaigns])
    with database.survey() as connection:
        reports = make_reports(connection, campaigns)
        comparisons = [
            compare(
                connection,
                loaded,
                credit_is_scarce=expected[loaded.oracle.campaign.organization].credit_is_scarce,
            )
            for loaded in run.campaigns
        ]
        began, ended = _span(connection, ids)
        return Result(
            run=run,
            reports=tuple(reports),
            comparisons=tuple(comparisons),
            findings=tuple(
                audit.check(connection, campaigns, audit.INVARIANTS + ledger_audit.INVARIANTS)
            ),
            withheld={
                run.scenario.organizations[name].name if name else run.scenario.organization.name: (
                    Withheld(
                        predicted=allowance.withheld,
                        actual=sum(
                            comparison.withheld
                            for loaded, comparison in zip(run.campaigns, comparisons, strict=True)
                            if loaded.oracle.campaign.organization == name
                        ),
                    )
                )
                for name, allowance in expected.items()
            },
            gateway=ledger.counts(connection, ids),
            seconds=(ended - began) / 1e6 / run.scenario.clock.speed,
            queued_to_gateway=_latencies(connection, ids, to_gateway=True),
            queued_to_final=_latencies(connection, ids, to_gateway=False),
            workers=workers,
            batch_size=batch_size,
            database=database.engine.dialect.name,
            log=log,
        )


def _span(connection: Connection, ids: Sequence[int]) -> tuple[Instant, Instant]:
    began, ended = connection.execute(
        sa.select(sa.func.min(steps.c.started_at), sa.func.max(steps.c.finished_at)).where(
            steps.c.campaign_id.in_(ids)
        )
    ).one()
    return began or 0, ended or 0


def _latencies(connection: Connection, ids: Sequence[int], *, to_gateway: bool) -> Latencies:
    """From queued to the gateway's first acceptance, or to the end of each settled message."""
    queued, reached = transitions.alias("queued"), transitions.alias("reached")
    arrival: Iterable[ColumnElement[bool]] = (
        (reached.c.status == Status.IN_GATEWAY, reached.c.attempt == 1)
        if to_gateway
        else (
            reached.c.status == messages.c.status,
            reached.c.attempt == messages.c.attempt,
            messages.c.status.in_({*FINAL, Status.SOFT_BOUNCED}),
        )
    )
    micros = (reached.c.at - queued.c.at).label("micros")
    pairs: list[NDArray[np.int64]] = []
    for campaign_id in ids:
        query = (
            sa.select(micros, sa.func.count())
            .select_from(messages)
            .join(queued, _same_message(queued))
            .join(reached, _same_message(reached))
            .where(
                messages.c.campaign_id == campaign_id,
                queued.c.status == Status.QUEUED,
                queued.c.attempt == 0,
                *arrival,
            )
            .group_by(micros)
        )
        found = connection.execute(query.execution_options(yield_per=CHUNK))
        pairs += (np.array(part, np.int64) for part in found.partitions())
    return Latencies.of(pairs)


def _same_message(other: sa.FromClause) -> ColumnElement[bool]:
    return sa.and_(
        other.c.campaign_id == messages.c.campaign_id, other.c.number == messages.c.number
    )
