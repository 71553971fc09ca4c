"""Archive of results: in the database, and as files in `SENDTRACE_HOME/runs/ID`.

The database has what listing and comparing runs needs. The folder has the same, and the page.
"""

import csv
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Connection

from simulator.results.observations import RunState
from simulator.results.result import RESULT_VERSION, RunResult
from simulator.results.timeseries import Timeseries, parse_timeseries
from simulator.schema import results
from simulator.validation_errors import format_validation_errors
from simulator.values import format_value
from tracker.errors import NotFound, UsageError
from tracker.record.retention.runs import IS_NOT_PRUNED
from tracker.record.suppressions.snapshot import ListSummary
from tracker.store.database import Database
from tracker.store.schema.catalog import runs
from tracker.store.schema.integers import MAX_INTEGER

SUMMARY_FILE, TIMESERIES_FILE, PAGE_FILE = "summary.json", "timeseries.csv", "report.html"

MAX_NAMED_PROBLEMS = 3
"""Invalid keys of a summary that an error names."""


class UnsupportedResultVersion(UsageError):
    """A result has the format of another version of sendtrace."""


class RunSummary(BaseModel):
    """The part of a `summary.json` that lists and comparisons read; see docs/results.md."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    class CampaignSummary(BaseModel):
        """A campaign's report, of which only the name is read."""

        campaign: str

    class VerdictSummary(BaseModel):
        """The verdict of the result."""

        passed: bool
        balanced: bool
        invariants_hold: bool
        as_predicted: bool
        thresholds_met: bool | None
        expectations_met: bool | None = True

        @property
        def is_proven(self) -> bool:
            """True if the result balances, holds the invariants and matches the prediction."""
            return self.balanced and self.invariants_hold and self.as_predicted

    run: int
    scenario: str
    seed: int | None
    state: RunState
    resumed: Annotated[int, Field(ge=0)] = 0
    started_at: datetime
    speed: Annotated[float, Field(gt=0)]
    not_comparable: dict[str, str] = Field(default_factory=dict)
    messages: int
    suppressions: dict[str, ListSummary] | None = None
    workers: int | None
    batch_size: int
    database: str
    durability: dict[str, str]
    machine: dict[str, str]
    versions: dict[str, str]
    verdict: VerdictSummary
    campaigns: tuple[CampaignSummary, ...]
    figures: dict[str, float | None]
    definition: str

    @property
    def is_repeatable(self) -> bool:
        """True for a finished run without a pause: others of its series measure the same."""
        return self.state is RunState.FINISHED and not self.resumed


@dataclass(frozen=True, kw_only=True)
class StoredResult:
    """A result from the archive or from a file, with the name that messages use."""

    name: str
    summary: RunSummary
    timeseries: Timeseries


def store_result(
    database: Database,
    result: RunResult,
    make_page: Callable[[RunResult], str],
    *,
    series: int | None = None,
) -> Path:
    """Store a result in the database and in the folder of its run; return the path of its page.

    It replaces an earlier result of the run.

    Args:
        series: the first of the runs that this one repeats; None for the first itself.
    """
    content = result.as_json()
    summary = json.dumps(content, indent=2) + "\n"
    timeseries = result.timeseries.as_csv(content)
    with database.write() as connection:
        connection.execute(sa.delete(results).where(results.c.run_id == result.run.id))
        connection.execute(
            sa.insert(results).values(
                run_id=result.run.id,
                series=series or result.run.id,
                version=RESULT_VERSION,
                summary=summary,
                timeseries=timeseries,
            )
        )
    _write_atomically(result.run.folder / SUMMARY_FILE, summary)
    _write_atomically(result.run.folder / TIMESERIES_FILE, timeseries)
    page = result.run.folder / PAGE_FILE
    _write_atomically(page, make_page(result))
    return page


def _write_atomically(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8", errors="replace")  # names of files may not be text
    part.replace(file)


def load_repeated_results(connection: Connection, run_id: int) -> list[StoredResult]:
    """Return the result of a run, then those of finished runs of the same series.

    A run that was resumed has no repetitions: its speed differs from theirs.

    Raises:
        NotFound: the run does not exist or has no result.
        UnsupportedResultVersion: the result is of another version.
    """
    if run_id > MAX_INTEGER:
        raise NotFound(f"run {run_id} does not exist; see sendtrace runs")
    row = connection.execute(sa.select(results).where(results.c.run_id == run_id)).one_or_none()
    if row is None:
        query = sa.select(runs.c.id).where(runs.c.id == run_id, IS_NOT_PRUNED)
        exists = connection.scalar(query) is not None
        if not exists:
            raise NotFound(f"run {run_id} does not exist; see sendtrace runs")
        raise NotFound(
            f"run {run_id} has no result: it did not finish, or ran with --no-record;"
            f" sendtrace judge {run_id} gives one"
        )
    result = _parse_result(f"run {run_id}", row.summary, row.timeseries)
    if not result.summary.is_repeatable:
        return [result]
    others = sa.select(results).where(results.c.series == row.series, results.c.run_id != run_id)
    repeated = (
        _parse_result(f"run {other.run_id}", other.summary, other.timeseries)
        for other in connection.execute(others.order_by(results.c.run_id))
    )
    return [result, *(other for other in repeated if other.summary.is_repeatable)]


def load_summary(connection: Connection, run_id: int) -> str:
    """Return the `summary.json` of a run; raise NotFound without one."""
    query = sa.select(results.c.summary).where(results.c.run_id == run_id)
    summary: str | None = connection.scalar(query) if run_id <= MAX_INTEGER else None
    if summary is None:
        load_repeated_results(connection, run_id)  # raises the error that fits
        raise NotFound(f"run {run_id} has no result")
    return summary


def load_result_page(connection: Connection, run_id: int, home: Path) -> str:
    """Return the page of a run from the folder in `home` that has the same summary.

    Raises:
        NotFound: no folder has it, such as for a run of another machine.
    """
    summary = load_summary(connection, run_id)
    runs_folder = home / "runs"
    for folder in (runs_folder / str(run_id), *sorted(runs_folder.glob(f"{run_id}.*"))):
        with suppress(OSError, UnicodeDecodeError):
            if (folder / SUMMARY_FILE).read_text(encoding="utf-8") == summary:
                return (folder / PAGE_FILE).read_text(encoding="utf-8")
    raise NotFound(
        f"the page of run {run_id} is not in {runs_folder}; it is where the run was made"
    )


def load_result_file(path: Path) -> list[StoredResult]:
    """Return the results in a `summary.json`, in its folder, or in a list of summaries.

    Raises:
        UsageError: the file is something else.
        UnsupportedResultVersion: the result is of another version.
    """
    file = path / SUMMARY_FILE if path.is_dir() else path
    timeseries_file = file.with_name(TIMESERIES_FILE)
    text = _read_text(file)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _not_a_summary(str(path)) from None
    if isinstance(content, list) and content:
        return [
            _parse_result(f"{path}[{index}]", json.dumps(summary), "")
            for index, summary in enumerate(content)
        ]
    timeseries = _read_text(timeseries_file) if timeseries_file.exists() else ""
    return [_parse_result(str(path), text, timeseries)]


def _not_a_summary(name: str, cause: str = "") -> UsageError:
    return UsageError(f"{name}: not a summary of a run{cause and f': {cause}'}")


def _read_text(file: Path) -> str:
    if file.exists() and not file.is_file():
        raise UsageError(f"{file}: not a regular file")
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: not UTF-8 text") from None


def _parse_result(name: str, summary: str, timeseries: str) -> StoredResult:
    try:
        version = json.loads(summary)["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _not_a_summary(name) from None
    if version != RESULT_VERSION:
        raise UnsupportedResultVersion(
            f"{name}: got a result of version {format_value(version)}; this sendtrace reads version"
            f" {RESULT_VERSION}; run the scenario again, or use the sendtrace that made it"
        )
    try:
        parsed = RunSummary.model_validate_json(summary)
    except ValidationError as error:
        problems = "; ".join(format_validation_errors(error, RunSummary)[:MAX_NAMED_PROBLEMS])
        raise _not_a_summary(name, problems) from None
    try:
        series = parse_timeseries(timeseries) if timeseries else Timeseries(1, {})
    except (ValueError, KeyError, OverflowError, csv.Error) as error:
        raise UsageError(f"{name}: the timeseries can't be read: {error}") from None
    return StoredResult(name=name, summary=parsed, timeseries=series)
