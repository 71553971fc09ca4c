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

from simulator.results.result import RESULT_VERSION, Result, State
from simulator.results.timeseries import Timeseries, read_csv
from simulator.scenario.errors import problems, shown
from simulator.schema import results
from tracker.clock import Instant
from tracker.errors import NotFound, UsageError
from tracker.store.database import Database
from tracker.store.schema import runs

SUMMARY, TIMESERIES, PAGE = "summary.json", "timeseries.csv", "report.html"


MOST_RUN = 2**31 - 1
"""The largest number that the column holds; a person may type any."""


class OtherVersion(UsageError):
    """A result was written by another version of sendtrace, and can't be read by this one."""


class Summary(BaseModel):
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
        def proven(self) -> bool:
            return self.balanced and self.invariants_hold and self.as_predicted

    run: int
    scenario: str
    seed: int | None
    state: State
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
class Kept:
    """A result as it was kept."""

    name: str
    summary: Summary
    timeseries: Timeseries


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A run in the list of runs; ``summary`` is None if it has no result that can be read: it came
    to no end, or in another version."""

    id: int
    scenario: str
    seed: int | None
    started_at: Instant
    series: int | None
    summary: Summary | None


def keep(
    database: Database,
    result: Result,
    make_page: Callable[[Result], str],
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
    _write(result.run.folder / SUMMARY, summary)
    _write(result.run.folder / TIMESERIES, timeseries)
    page = result.run.folder / PAGE
    _write(page, make_page(result))
    return page


def _write(file: Path, text: str) -> None:
    """Write a file, all of it or nothing."""
    aside = file.with_name(f"{file.name}.part")
    # What a file is called may be no text; it is told all the same.
    aside.write_text(text, encoding="utf-8", errors="replace")
    aside.replace(file)


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
            summary=_summary(row.summary) if row.version == RESULT_VERSION else None,
        )
        for row in connection.execute(query)
    ]


def _summary(text: str) -> Summary | None:
    """A summary, if it can be read: a list is not given up for one of its rows."""
    with suppress(ValidationError):
        return Summary.model_validate_json(text)
    return None


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
    kept = _kept(f"run {run_id}", row.summary, row.timeseries)
    if kept.summary.state is not State.COMPLETE:
        return [kept]
    others = sa.select(results).where(results.c.series == row.series, results.c.run_id != run_id)
    repeated = (
        _kept(f"run {each.run_id}", each.summary, each.timeseries)
        for each in connection.execute(others.order_by(results.c.run_id))
    )
    # A run that was ended early repeats no other.
    return [kept, *(each for each in repeated if each.summary.state is State.COMPLETE)]


def load_summary(connection: Connection, run_id: int) -> str:
    """The ``summary.json`` of a run. Raises :exc:`NotFound` as :func:`load_series` does."""
    found = sa.select(results.c.summary).where(results.c.run_id == run_id)
    summary: str | None = connection.scalar(found) if run_id <= MOST_RUN else None
    if summary is None:
        load_series(connection, run_id)  # says what is wrong
        raise NotFound(f"run {run_id} has no result")
    return summary


def load_page(connection: Connection, run_id: int, home: Path) -> str:
    """The page of a run, from its folder in ``home``: that with the same result.

    Raises :exc:`NotFound` where there is none, such as for a run of another machine.
    """
    summary = load_summary(connection, run_id)
    runs_folder = home / "runs"
    for folder in (runs_folder / str(run_id), *sorted(runs_folder.glob(f"{run_id}.*"))):
        with suppress(OSError, UnicodeDecodeError):
            if (folder / SUMMARY).read_text(encoding="utf-8") == summary:
                return (folder / PAGE).read_text(encoding="utf-8")
    raise NotFound(f"the page of run {run_id} is not in {runs_folder}: it was made elsewhere")


def load_file(path: Path) -> list[Kept]:
    """The result in a ``summary.json``, or in the folder that it is in; or the results in a list of
    summaries, as repeated runs write it.

    Raises :exc:`UsageError` for what is none, and :exc:`OtherVersion`.
    """
    file = path / SUMMARY if path.is_dir() else path
    beside = file.with_name(TIMESERIES)
    text = _text(file)
    try:
        several = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: is no summary of a run") from None
    if isinstance(several, list) and several:
        return [
            _kept(f"{path}[{place}]", json.dumps(each), "") for place, each in enumerate(several)
        ]
    return [_kept(str(path), text, _text(beside) if beside.exists() else "")]


def _text(file: Path) -> str:
    if file.exists() and not file.is_file():
        raise UsageError(f"{file}: is not a regular file")
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not UTF-8 text") from None


def _kept(name: str, summary: str, timeseries: str) -> Kept:
    try:
        version = json.loads(summary)["version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(f"{name}: is no summary of a run") from None
    if version != RESULT_VERSION:
        raise OtherVersion(
            f"{name}: its result has version {shown(version)}, and this sendtrace reads"
            f" {RESULT_VERSION}; run the scenario again, or use the sendtrace that made it"
        )
    try:
        read = Summary.model_validate_json(summary)
    except ValidationError as error:
        wrong = "; ".join(problems(error, Summary)[:MOST_PROBLEMS])
        raise UsageError(f"{name}: is no summary of a run: {wrong}") from None
    try:
        series = read_csv(timeseries) if timeseries else Timeseries(1, {})
    except (ValueError, KeyError, OverflowError, csv.Error) as error:
        raise UsageError(f"{name}: its timeseries can't be read: {error}") from None
    return Kept(name=name, summary=read, timeseries=series)


MOST_PROBLEMS = 3
"""Keys that are wrong in a summary, and are named."""


def as_row(run: Listed) -> dict[str, Any]:
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
        "result": result_words(run),
    }


def result_words(run: Listed) -> str:
    """What came of a run, in a word or two."""
    if run.summary is None:
        return "no result" if run.series is None else "can't be read"
    if not run.summary.verdict.proven:
        return "failed"
    if run.summary.state != "complete":
        return f"partial ({run.summary.state})"
    return "passed" if run.summary.verdict.passed else "threshold missed"
