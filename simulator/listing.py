"""Runs as they are listed."""

from typing import Any

from simulator.archive import Listed


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
