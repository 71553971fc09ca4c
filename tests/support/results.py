"""Results of runs, as the archive returns them."""

from collections.abc import Mapping
from typing import Any

from simulator.figures import list_figure_units
from simulator.results.archive.store import RunSummary, StoredResult
from simulator.results.timeseries import Timeseries

FIGURES = {
    **dict.fromkeys(list_figure_units(["spring"]), 0.0),
    "throughput": 1_000.0,
    "delivered": 90.0,
    "queued_to_gateway.p95": 2.0,
    "queued_to_final.p95": 10.0,
    "gateway_to_outcome.p99": 0.2,
}


def make_stored_result(
    run: int = 1, /, figures: Mapping[str, float | None] = {}, **changes: Any
) -> StoredResult:
    summary = {
        "run": run,
        "scenario": "test",
        "seed": 1,
        "state": "finished",
        "speed": 1,
        "messages": 100,
        "workers": None,
        "batch_size": 10,
        "database": "sqlite",
        "durability": {},
        "machine": {"load before": str(run)},
        "versions": {},
        "started_at": "2026-11-25T01:02:03+00:00",
        "verdict": dict.fromkeys(RunSummary.VerdictSummary.model_fields, True),
        "campaigns": [{"campaign": "spring"}],
        "figures": {**FIGURES, **figures},
        "definition": "a = 1\nb = 2\n",
    }
    return StoredResult(
        name=f"run {run}",
        summary=RunSummary.model_validate(summary | changes),
        timeseries=Timeseries(1, {}),
    )
