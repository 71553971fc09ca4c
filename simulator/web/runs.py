"""The runs on the live page: their results, and how two of them compare."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import Connection
from starlette.responses import HTMLResponse, RedirectResponse, Response

from simulator.pages.comparison_page import contrast_page
from simulator.results.archive import (
    Listed,
    as_row,
    list_runs,
    load_page,
    load_series,
    load_summary,
)
from simulator.results.run_comparison import Contrast, contrast
from tracker.clock import to_datetime
from tracker.web.context import Desk
from tracker.web.security import ONE_FILE

MOST_LISTED = 200

Run = Annotated[int, Query(description="The run's number.")]


def make_runs(desk: Desk) -> APIRouter:
    """The pages of the runs, and the same as JSON."""
    router = APIRouter()
    get = partial(router.add_api_route, methods=["GET"])

    def listed() -> list[Listed]:
        with desk.reading() as connection:
            return list_runs(connection, MOST_LISTED)

    def overview() -> Response:
        rows = [as_row(each) | {"at": to_datetime(each.started_at)} for each in listed()]
        return desk.page("runs.html", title="Runs", runs=rows)

    def page(run: int) -> Response:
        with desk.reading() as connection:
            text = load_page(connection, run, desk.settings.home)
        return HTMLResponse(text, headers=ONE_FILE)

    def comparison(before: str = "", after: str = "") -> Response:
        if not (before.isdecimal() and after.isdecimal()):
            return RedirectResponse("/runs")
        with desk.reading() as connection:
            found = _contrast(connection, int(before), int(after))
        return HTMLResponse(contrast_page(found), headers=ONE_FILE)

    def runs_json() -> list[dict[str, Any]]:
        """The runs on record, the latest first, as `sendtrace runs --format json` has them."""
        return [
            as_row(each) | {"started": to_datetime(each.started_at).isoformat()}
            for each in listed()
        ]

    def run_json(run: int) -> Response:
        """The result of a run: its summary.json, which docs/results.md explains."""
        with desk.reading() as connection:
            return Response(load_summary(connection, run), media_type="application/json")

    def comparison_json(before: Run, after: Run) -> dict[str, Any]:
        """Two runs compared figure by figure, as `sendtrace compare --format json` has it."""
        with desk.reading() as connection:
            return _contrast(connection, before, after).as_json()

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


def _contrast(connection: Connection, before: int, after: int) -> Contrast:
    return contrast(load_series(connection, before), load_series(connection, after))
