"""Where the results of runs are kept: in the database, and as files for people to hand on.

The database has what is needed to list and to compare runs. The folder of a run has the same, and
the page: ``SENDTRACE_HOME/runs/ID``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from simulator.results import RESULT_VERSION, Result
from simulator.schema import results
from simulator.timeseries import Timeseries, read_csv
from tracker.database import Database
from tracker.errors import NotFound, UsageError
from tracker.schema import runs

SUMMARY, TIMESERIES, PAGE = "summary.json", "timeseries.csv", "report.html"


MOST_RUN = 2**31 - 1
"""The largest number that the column holds; a person may type any."""


class OtherVersion(UsageError):
    """A result was written by another version of sendtrace, and can't be read by this one."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A result as it was kept: the summary that ``docs/results.md`` explains, and the series."""

    name: str
    summary: Mapping[str, Any]
    timeseries: Timeseries

    @property
    def figures(self) -> Mapping[str, float | None]:
        figures: Mapping[str, float | None] = self.summary["figures"]
        return figures


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A run in the list of runs; ``summary`` is None if it has no result, as it came to no end."""

    id: int
    scenario: str
    seed: int | None
    started_at: int
    series: int | None
    summary: Mapping[str, Any] | None


def keep(database: Database, result: Result, folder: Path, *, series: int | None = None) -> Path:
    """Keep a result in the database and in a folder, whose page it returns.

    ``series`` is the first of the runs that repeat each other, if this is not it.
    """
    from simulator import page as pages  # what draws takes a while to load

    summary = json.dumps(result.as_json(), indent=2) + "\n"
    timeseries = result.timeseries.as_csv()
    with database.write() as connection:
        connection.execute(
            sa.insert(results).values(
                run_id=result.run.id,
                series=series or result.run.id,
                version=RESULT_VERSION,
                summary=summary,
                timeseries=timeseries,
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY).write_text(summary, encoding="utf-8")
    (folder / TIMESERIES).write_text(timeseries, encoding="utf-8")
    page = folder / PAGE
    page.write_text(pages.result_page(result), encoding="utf-8")
    return page


def list_runs(connection: Connection, most: int | None = None) -> list[Listed]:
    """The runs on record, the latest first, ``most`` of them."""
    query = (
        sa.select(
            *(runs.c.id, runs.c.scenario, runs.c.seed, runs.c.started_at),
            *(results.c.series, results.c.version, results.c.summary),
        )
        .outerjoin(results, results.c.run_id == runs.c.id)
        .order_by(runs.c.id.desc())
        .limit(most)
    )
    return [
        Listed(
            id=row.id,
            scenario=row.scenario,
            seed=row.seed,
            started_at=row.started_at,
            series=row.series,
            summary=json.loads(row.summary) if row.version == RESULT_VERSION else None,
        )
        for row in connection.execute(query)
    ]


def load_series(connection: Connection, run_id: int) -> list[Kept]:
    """The result of a run, and those of the runs that repeat it: it comes first.

    Raises :exc:`NotFound` where there is no such run or it has no result, and
    :exc:`OtherVersion`.
    """
    if run_id > MOST_RUN:
        raise NotFound(f"run {run_id} does not exist; see sendtrace runs")
    row = connection.execute(sa.select(results).where(results.c.run_id == run_id)).one_or_none()
    if row is None:
        known = connection.scalar(sa.select(runs.c.id).where(runs.c.id == run_id)) is not None
        why = "has no result: it came to no end, or was not recorded"
        raise NotFound(f"run {run_id} {why if known else 'does not exist'}; see sendtrace runs")
    others = sa.select(results).where(results.c.series == row.series, results.c.run_id != run_id)
    return [
        _kept(f"run {each.run_id}", each.summary, each.timeseries)
        for each in (row, *connection.execute(others.order_by(results.c.run_id)))
    ]


def load_file(path: Path) -> Kept:
    """A result from a ``summary.json``, or from the folder that it is in.

    Raises :exc:`UsageError` for what is none, and :exc:`OtherVersion`.
    """
    file = path / SUMMARY if path.is_dir() else path
    try:
        summary = file.read_text(encoding="utf-8")
        beside = file.with_name(TIMESERIES)
        timeseries = beside.read_text(encoding="utf-8") if beside.exists() else ""
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is no summary of a run") from None
    return _kept(str(path), summary, timeseries)


def _kept(name: str, summary: str, timeseries: str) -> Kept:
    try:
        parsed = json.loads(summary)
        version = parsed["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(f"{name}: is no summary of a run") from None
    if version != RESULT_VERSION:
        raise OtherVersion(
            f"{name}: its result has version {version}, and this sendtrace reads"
            f" {RESULT_VERSION}; run the scenario again, or use the sendtrace that made it"
        )
    if not isinstance(parsed.get("figures"), dict):
        raise UsageError(f"{name}: is no summary of a run")
    try:
        series = read_csv(timeseries) if timeseries else Timeseries(1, {})
    except (ValueError, KeyError) as error:
        raise UsageError(f"{name}: its timeseries can't be read: {error}") from None
    return Kept(name=name, summary=parsed, timeseries=series)
