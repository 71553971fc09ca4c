"""The pages of the runs on the live page, and their API: results and run comparisons."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from simulator.pages.comparison_page import render_comparison_page
from simulator.results.archive.comparison import RunComparison, compare_runs
from simulator.results.archive.run_list import list_runs, make_run_row
from simulator.results.archive.store import load_repeated_results, load_result_page, load_summary
from tracker.clock import to_datetime
from tracker.web.context import Context, WebContext, WebSection
from tracker.web.security import SERVED_RESULT_HEADERS

MAX_LISTED_RUNS = 200

NOT_FOUND_RESPONSE: dict[int | str, dict[str, Any]] = {
    404: {"description": "Unknown run, or a run without a result."}
}

OWN_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
"""The policy in a self-contained page, which no script may run in."""

LIVE_SCRIPT = '<script src="/static/live.js" defer></script>'

LIVE_BODY = '<body data-events="/api/events?view=health">'

RunNumber = Annotated[int, Query(description="The run's number.")]

router = APIRouter()

RUNS_SECTION = WebSection("Runs", "/runs", router, template_package="simulator")


@router.get("/runs", include_in_schema=False)
def show_runs(context: Context) -> HTMLResponse:
    """Show the latest runs, the latest first."""
    with context.read_database() as connection:
        runs = list_runs(connection, MAX_LISTED_RUNS)
    rows = [make_run_row(run) | {"started_at": to_datetime(run.started_at)} for run in runs]
    return context.render_page("runs.html", current_page="/runs", title="Runs", runs=rows)


@router.get("/runs/compare", include_in_schema=False)
def show_comparison(context: Context, before: str = "", after: str = "") -> Response:
    """Show the comparison of two runs; without two numbers, redirect to the list."""
    if not (before.isdecimal() and after.isdecimal()):
        return RedirectResponse("/runs")
    with context.read_database() as connection:
        comparison = _compare_runs(connection, int(before), int(after))
    return _add_live_top(context, render_comparison_page(comparison))


@router.get("/runs/{run:int}", include_in_schema=False)
def show_result(run: int, context: Context) -> HTMLResponse:
    """Show the result page of a run."""
    with context.read_database() as connection:
        page = load_result_page(connection, run, context.settings.home)
    return _add_live_top(context, page)


@router.get("/api/runs", summary="The runs", tags=["runs"], operation_id="runs_json_api_runs_get")
def get_runs(context: Context) -> list[dict[str, Any]]:
    """Return the latest runs, the latest first, as `sendtrace runs --format json` prints them."""
    with context.read_database() as connection:
        runs = list_runs(connection, MAX_LISTED_RUNS)
    return [
        make_run_row(run) | {"started": to_datetime(run.started_at).isoformat()} for run in runs
    ]


@router.get(
    "/api/runs/{run}",
    summary="The result of a run",
    tags=["runs"],
    responses=NOT_FOUND_RESPONSE,
    operation_id="run_json_api_runs__run__get",
)
def get_run(
    run: Annotated[int, Path(description="The run's number.")], context: Context
) -> Response:
    """Return the result of a run: its summary.json, which docs/results.md describes."""
    with context.read_database() as connection:
        return Response(load_summary(connection, run), media_type="application/json")


@router.get(
    "/api/compare",
    summary="The comparison of two runs",
    tags=["runs"],
    responses=NOT_FOUND_RESPONSE,
    operation_id="comparison_json_api_compare_get",
)
def get_comparison(before: RunNumber, after: RunNumber, context: Context) -> dict[str, Any]:
    """Return a run comparison, as `sendtrace compare --format json` prints it."""
    with context.read_database() as connection:
        return _compare_runs(connection, before, after).as_json()


def _add_live_top(context: WebContext, page: str) -> HTMLResponse:
    """Return a self-contained page with the navigation and the live health of the other pages."""
    top = context.render_template("live_top.html", current_page=RUNS_SECTION.path)
    served = OWN_POLICY.sub(LIVE_SCRIPT, page, count=1)
    served = served.replace("<body>", f"{LIVE_BODY}\n{top}", 1)
    return HTMLResponse(served, headers=SERVED_RESULT_HEADERS)


def _compare_runs(connection: Connection, before: int, after: int) -> RunComparison:
    return compare_runs(
        load_repeated_results(connection, before), load_repeated_results(connection, after)
    )
