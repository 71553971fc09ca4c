"""The list of runs, with the state and the result of each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from sqlalchemy import Connection

from simulator.figures import RUN_SECONDS, THROUGHPUT, find_speed_group
from simulator.results.archive.store import RunSummary
from simulator.results.observations import RunState
from simulator.results.result import RESULT_VERSION
from simulator.schema import results
from tracker.campaign_states import CampaignState
from tracker.clock import Instant
from tracker.queries.campaign_state import run_state
from tracker.record.retention.runs import IS_NOT_PRUNED
from tracker.store.schema.catalog import campaigns, runs


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run in the list of runs.

    Attributes:
        series: the first of the runs that repeat each other; None without a result.
        summary: None without a result, or with one of another version.
        titles: the titles of its campaigns that have one.
    """

    id: int
    scenario: str
    seed: int | None
    started_at: Instant
    state: CampaignState
    series: int | None
    summary: RunSummary | None
    titles: tuple[str, ...]


def list_runs(connection: Connection, limit: int | None = None) -> list[ListedRun]:
    """Return the recorded runs, latest first; with a `limit`, at most so many."""
    query = (
        sa.select(
            runs.c.id,
            runs.c.scenario,
            runs.c.seed,
            runs.c.started_at,
            run_state(connection).label("state"),
            results.c.series,
            results.c.version,
            results.c.summary,
        )
        .outerjoin(results, results.c.run_id == runs.c.id)
        .where(IS_NOT_PRUNED)
        .order_by(runs.c.id.desc())
        .limit(limit)
    )
    rows = connection.execute(query).all()
    titles = _read_titles(connection, [row.id for row in rows])
    return [
        ListedRun(
            id=row.id,
            scenario=row.scenario,
            seed=row.seed,
            started_at=row.started_at,
            state=CampaignState(row.state),
            series=row.series,
            summary=_parse_summary(row.summary) if row.version == RESULT_VERSION else None,
            titles=tuple(titles[row.id]),
        )
        for row in rows
    ]


def _read_titles(connection: Connection, run_ids: Sequence[int]) -> Mapping[int, Sequence[str]]:
    """Return the titles of campaigns by run, in the order of the campaigns."""
    query = (
        sa.select(campaigns.c.run_id, campaigns.c.title)
        .where(campaigns.c.run_id.in_(run_ids), campaigns.c.title.is_not(None))
        .order_by(campaigns.c.id)
    )
    titles: defaultdict[int, list[str]] = defaultdict(list)
    for run_id, title in connection.execute(query):
        titles[run_id].append(title)
    return titles


def _parse_summary(text: str) -> RunSummary | None:
    """Return a summary, or None if it is damaged: one damaged row must not break a list."""
    with suppress(ValidationError):
        return RunSummary.model_validate_json(text)
    return None


def make_run_row(run: ListedRun) -> dict[str, Any]:
    """Return the columns of a run in the list of runs; None for unknown values."""
    return {
        "run": run.id,
        "started": run.started_at,
        "scenario": run.scenario,
        "seed": run.seed,
        "messages": run.summary.messages if run.summary else None,
        "seconds": _find_comparable_value(run.summary, RUN_SECONDS),
        "throughput": _find_comparable_value(run.summary, THROUGHPUT),
        "to_gateway_p95": _find_comparable_value(run.summary, "queued_to_gateway.p95"),
        "state": run.state.value,
        "result": describe_result(run),
        "titles": "; ".join(run.titles),
    }


def _find_comparable_value(summary: RunSummary | None, figure: str) -> float | None:
    """Return the value of a figure, None if it can't be compared with that of another run."""
    if summary is None or find_speed_group(figure, ()) in summary.not_comparable:
        return None
    return summary.figures.get(figure)


def describe_result(run: ListedRun) -> str:
    """Return the result of a run in a few words."""
    if run.summary is None:
        return "no result" if run.series is None else "can't be read"
    resumed = " (resumed)" if run.summary.resumed else ""
    if not run.summary.verdict.is_proven:
        return f"failed{resumed}"
    if run.summary.state is not RunState.FINISHED:
        return f"partial ({run.summary.state}{', resumed' if resumed else ''})"
    if run.summary.verdict.passed:
        return f"passed{resumed}"
    if run.summary.verdict.expectations_met is False:
        return f"expectation missed{resumed}"
    is_missed = run.summary.verdict.thresholds_met is False
    return f"threshold {'missed' if is_missed else 'not judged'}{resumed}"
