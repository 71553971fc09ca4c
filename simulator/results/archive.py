"""Where the results of runs are kept: in the database, and as files for people to hand on.

The database has what is needed to list and to compare runs. The folder of a run has the same, and
the page: ``SENDTRACE_HOME/runs/ID``.
"""

import csv
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection

from simulator.results.result import RESULT_VERSION, RunResult, RunState
from simulator.results.timeseries import Timeseries, parse_timeseries
from simulator.scenario.errors import format_validation_errors
from simulator.schema import results
from simulator.values import format_value
from tracker.clock import Instant
from tracker.errors import NotFound, UsageError
from tracker.store.database import Database
from tracker.store.schema.catalog import runs

SUMMARY_FILE, TIMESERIES_FILE, PAGE_FILE = "summary.json", "timeseries.csv", "report.html"


MAX_RUN_ID = 2**31 - 1
"""The largest number that the column holds; a person may type any."""


class UnsupportedResultVersion(UsageError):
    """A result was written by another version of sendtrace, and can't be read by this one."""


class RunSummary(BaseModel):
    """What is read of a ``summary.json``, which ``docs/results.md`` explains."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    class Campaign(BaseModel):
        campaign: str

    class Verdict(BaseModel):
        passed: bool
        balanced: bool
        invariants_hold: bool
        as_predicted: bool

        @property
        def is_proven(self) -> bool:
            return self.balanced and self.invariants_hold and self.as_predicted

    run: int
    scenario: str
    seed: int | None
    state: RunState
    started_at: datetime
    speed: Annotated[float, Field(gt=0)]
    messages: int
    workers: int | None
    batch_size: int
    database: str
    durability: dict[str, str]
    machine: dict[str, str]
    versions: dict[str, str]
    verdict: Verdict
    campaigns: tuple[Campaign, ...]
    figures: dict[str, float | None]
    definition: str


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A result as it was kept."""

    name: str
    summary: RunSummary
    timeseries: Timeseries


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run in the list of runs; ``summary`` is None if it has no result that can be read: it came
    to no end, or in another version."""

    id: int
    scenario: str
    seed: int | None
    started_at: Instant
    series: int | None
    summary: RunSummary | None


def store_result(
    database: Database,
    result: RunResult,
    make_page: Callable[[RunResult], str],
    *,
    series: int | None = None,
) -> Path:
    """Keep a result in the database and in the folder of its run; return the path of its page.

    ``make_page`` renders the page. ``series`` is the first of the runs that repeat each other, if
    this is not it.
    """

    summary = json.dumps(result.as_json(), indent=2) + "\n"
    timeseries = result.timeseries.as_csv()
    with database.write() as connection:
        # Nobody knows whether a commit took place whose answer was lost: it may be there already.
        connection.execute(
            database.upsert(results)
            .values(
                run_id=result.run.id,
                series=series or result.run.id,
                version=RESULT_VERSION,
                summary=summary,
                timeseries=timeseries,
            )
            .on_conflict_do_nothing()
        )
    _write_atomically(result.run.folder / SUMMARY_FILE, summary)
    _write_atomically(result.run.folder / TIMESERIES_FILE, timeseries)
    page = result.run.folder / PAGE_FILE
    _write_atomically(page, make_page(result))
    return page


def _write_atomically(file: Path, text: str) -> None:
    """Write a file, all of it or nothing."""
    aside = file.with_name(f"{file.name}.part")
    # What a file is called may be no text; it is told all the same.
    aside.write_text(text, encoding="utf-8", errors="replace")
    aside.replace(file)


def list_runs(connection: Connection, limit: int | None = None) -> list[ListedRun]:
    """The runs on record, the latest first, ``limit`` of them."""
    query = (
        sa.select(
            *(runs.c.id, runs.c.scenario, runs.c.seed, runs.c.started_at),
            *(results.c.series, results.c.version, results.c.summary),
        )
        .outerjoin(results, results.c.run_id == runs.c.id)
        .order_by(runs.c.id.desc())
        .limit(limit)
    )
    return [
        ListedRun(
            id=row.id,
            scenario=row.scenario,
            seed=row.seed,
            started_at=row.started_at,
            series=row.series,
            summary=_parse_summary(row.summary) if row.version == RESULT_VERSION else None,
        )
        for row in connection.execute(query)
    ]


def _parse_summary(text: str) -> RunSummary | None:
    """A summary, if it can be read: a list is not given up for one of its rows."""
    with suppress(ValidationError):
        return RunSummary.model_validate_json(text)
    return None


def load_repeated_results(connection: Connection, run_id: int) -> list[StoredResult]:
    """The result of a run, and those of the runs that repeat it: it comes first.

    Raises :exc:`NotFound` where there is no such run or it has no result, and
    :exc:`UnsupportedResultVersion`.
    """
    if run_id > MAX_RUN_ID:
        raise NotFound(f"run {run_id} does not exist; see sendtrace runs")
    row = connection.execute(sa.select(results).where(results.c.run_id == run_id)).one_or_none()
    if row is None:
        known = connection.scalar(sa.select(runs.c.id).where(runs.c.id == run_id)) is not None
        why = "has no result: it came to no end, or was not recorded"
        raise NotFound(f"run {run_id} {why if known else 'does not exist'}; see sendtrace runs")
    kept = _parse_result(f"run {run_id}", row.summary, row.timeseries)
    if kept.summary.state is not RunState.COMPLETE:
        return [kept]
    others = sa.select(results).where(results.c.series == row.series, results.c.run_id != run_id)
    repeated = (
        _parse_result(f"run {each.run_id}", each.summary, each.timeseries)
        for each in connection.execute(others.order_by(results.c.run_id))
    )
    # A run that was ended early repeats no other.
    return [kept, *(each for each in repeated if each.summary.state is RunState.COMPLETE)]


def load_summary(connection: Connection, run_id: int) -> str:
    """The ``summary.json`` of a run. Raises :exc:`NotFound` as :func:`load_repeated_results` does."""
    found = sa.select(results.c.summary).where(results.c.run_id == run_id)
    summary: str | None = connection.scalar(found) if run_id <= MAX_RUN_ID else None
    if summary is None:
        load_repeated_results(connection, run_id)  # says what is wrong
        raise NotFound(f"run {run_id} has no result")
    return summary


def load_result_page(connection: Connection, run_id: int, home: Path) -> str:
    """The page of a run, from its folder in ``home``: that with the same result.

    Raises :exc:`NotFound` where there is none, such as for a run of another machine.
    """
    summary = load_summary(connection, run_id)
    runs_folder = home / "runs"
    for folder in (runs_folder / str(run_id), *sorted(runs_folder.glob(f"{run_id}.*"))):
        with suppress(OSError, UnicodeDecodeError):
            if (folder / SUMMARY_FILE).read_text(encoding="utf-8") == summary:
                return (folder / PAGE_FILE).read_text(encoding="utf-8")
    raise NotFound(f"the page of run {run_id} is not in {runs_folder}: it was made elsewhere")


def load_result_file(path: Path) -> list[StoredResult]:
    """The result in a ``summary.json``, or in the folder that it is in; or the results in a list of
    summaries, as repeated runs write it.

    Raises :exc:`UsageError` for what is none, and :exc:`UnsupportedResultVersion`.
    """
    file = path / SUMMARY_FILE if path.is_dir() else path
    beside = file.with_name(TIMESERIES_FILE)
    text = _read_text(file)
    try:
        several = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: is no summary of a run") from None
    if isinstance(several, list) and several:
        return [
            _parse_result(f"{path}[{place}]", json.dumps(each), "")
            for place, each in enumerate(several)
        ]
    return [_parse_result(str(path), text, _read_text(beside) if beside.exists() else "")]


def _read_text(file: Path) -> str:
    if file.exists() and not file.is_file():
        raise UsageError(f"{file}: is not a regular file")
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not UTF-8 text") from None


def _parse_result(name: str, summary: str, timeseries: str) -> StoredResult:
    try:
        version = json.loads(summary)["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(f"{name}: is no summary of a run") from None
    if version != RESULT_VERSION:
        raise UnsupportedResultVersion(
            f"{name}: its result has version {format_value(version)}, and this sendtrace reads"
            f" {RESULT_VERSION}; run the scenario again, or use the sendtrace that made it"
        )
    try:
        read = RunSummary.model_validate_json(summary)
    except ValidationError as error:
        wrong = "; ".join(format_validation_errors(error, RunSummary)[:MAX_NAMED_PROBLEMS])
        raise UsageError(f"{name}: is no summary of a run: {wrong}") from None
    try:
        series = parse_timeseries(timeseries) if timeseries else Timeseries(1, {})
    except (ValueError, KeyError, OverflowError, csv.Error) as error:
        raise UsageError(f"{name}: its timeseries can't be read: {error}") from None
    return StoredResult(name=name, summary=read, timeseries=series)


MAX_NAMED_PROBLEMS = 3
"""Keys that are wrong in a summary, and are named."""


def make_run_row(run: ListedRun) -> dict[str, Any]:
    """A run as a list of runs has it; what is not known is None."""
    figures = run.summary.figures if run.summary else {}
    return {
        "run": run.id,
        "started": run.started_at,
        "scenario": run.scenario,
        "seed": run.seed,
        "messages": run.summary.messages if run.summary else None,
        "seconds": figures.get("seconds"),
        "throughput": figures.get("throughput"),
        "to_gateway_p95": figures.get("queued_to_gateway.p95"),
        "result": describe_result(run),
    }


def describe_result(run: ListedRun) -> str:
    """What came of a run, in a word or two."""
    if run.summary is None:
        return "no result" if run.series is None else "can't be read"
    if not run.summary.verdict.is_proven:
        return "failed"
    if run.summary.state != "complete":
        return f"partial ({run.summary.state})"
    return "passed" if run.summary.verdict.passed else "threshold missed"
