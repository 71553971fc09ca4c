"""The runs on the live page: their results, and how two of them compare."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from simulator.pages.comparison_page import contrast_page
from simulator.results.archive import (
    ListedRun,
    list_runs,
    load_repeated_results,
    load_result_page,
    load_summary,
    make_run_row,
)
from simulator.results.run_comparison import RunComparison, compare_runs
from tracker.clock import to_datetime
from tracker.web.context import WebContext
from tracker.web.security import SELF_CONTAINED_PAGE_HEADERS

MAX_LISTED_RUNS = 200

RunNumber = Annotated[int, Query(description="The run's number.")]


def make_runs_router(desk: WebContext) -> APIRouter:
    """The pages of the runs, and the same as JSON."""
    router = APIRouter()
    get = partial(router.add_api_route, methods=["GET"])

    def listed() -> list[ListedRun]:
        with desk.read() as connection:
            return list_runs(connection, MAX_LISTED_RUNS)

    def overview() -> Response:
        rows = [make_run_row(each) | {"at": to_datetime(each.started_at)} for each in listed()]
        return desk.page("runs.html", title="Runs", runs=rows)

    def page(run: int) -> Response:
        with desk.read() as connection:
            text = load_result_page(connection, run, desk.settings.home)
        return HTMLResponse(text, headers=SELF_CONTAINED_PAGE_HEADERS)

    def comparison(before: str = "", after: str = "") -> Response:
        if not (before.isdecimal() and after.isdecimal()):
            return RedirectResponse("/runs")
        with desk.read() as connection:
            found = _compare_runs(connection, int(before), int(after))
        return HTMLResponse(contrast_page(found), headers=SELF_CONTAINED_PAGE_HEADERS)

    def runs_json() -> list[dict[str, Any]]:
        """The runs on record, the latest first, as `sendtrace runs --format json` has them."""
        return [
            make_run_row(each) | {"started": to_datetime(each.started_at).isoformat()}
            for each in listed()
        ]

    def run_json(run: int) -> Response:
        """The result of a run: its summary.json, which docs/results.md explains."""
        with desk.read() as connection:
            return Response(load_summary(connection, run), media_type="application/json")

    def comparison_json(before: RunNumber, after: RunNumber) -> dict[str, Any]:
        """Two runs compared figure by figure, as `sendtrace compare --format json` has it."""
        with desk.read() as connection:
            return _compare_runs(connection, before, after).as_json()

    pages: dict[str, Any] = {"include_in_schema": False, "response_class": HTMLResponse}
    get("/runs", overview, **pages)
    get("/runs/compare", comparison, **pages)
    get("/runs/{run:int}", page, **pages)
    tagged: dict[str, Any] = {"tags": ["runs"]}
    missing: dict[int | str, dict[str, Any]] = {
        404: {"description": "There is no such run, or it has no result."}
    }
    get("/api/runs", runs_json, summary="The runs", **tagged)
    get("/api/runs/{run}", run_json, summary="The result of a run", responses=missing, **tagged)
    get(
        "/api/compare",
        comparison_json,
        summary="Two runs compared",
        responses=missing,
        **tagged,
    )
    return router


def _compare_runs(connection: Connection, before: int, after: int) -> RunComparison:
    return compare_runs(
        load_repeated_results(connection, before), load_repeated_results(connection, after)
    )
