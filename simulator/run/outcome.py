"""The outcome of a run: its result, and where it is kept."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from simulator.results.archive.store import store_result
from simulator.results.result import RunResult
from simulator.retry import Outages
from simulator.setup.run_folder import create_run_folder
from tracker.output.svg import DrawingFailed
from tracker.store.database import Database


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """The result of a run, and where it is.

    Attributes:
        page: the page of the result; None if it was not recorded.
        archive_error: why the result could not be recorded, if so.
        is_shutdown_requested: whether a signal asked the run to finish early.
    """

    result: RunResult
    page: Path | None = None
    archive_error: str | None = None
    is_shutdown_requested: bool = False


def archive_result(
    database: Database, outages: Outages, home: Path, result: RunResult, *, series: int | None
) -> tuple[Path | None, str | None]:
    """Store a result; return its page, or why it could not be stored.

    Args:
        home: where the folder of its run is created if it is gone.
        series: the first of the runs that its run repeats; None for the first itself.
    """
    from simulator.pages.result_page import render_result_page  # loads the chart library

    try:
        if not result.run.folder.is_dir():
            folder = create_run_folder(home, result.run.id)
            result = replace(result, run=replace(result.run, folder=folder))
        page = outages.retry(
            partial(store_result, database, result, render_result_page, series=series)
        )
    except OSError as error:
        return None, f"{error.filename or result.run.folder}: {error.strerror}"
    except SQLAlchemyError as error:
        return None, f"the database: {database.summarize_error(error)}"
    except DrawingFailed as error:
        return None, str(error)
    return page, None
