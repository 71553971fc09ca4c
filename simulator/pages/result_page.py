"""The page of a result: one file to open, to print and to mail."""

import shlex
from collections.abc import Iterator
from datetime import tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from simulator.figures import PERCENTILES, THROUGHPUT, TIMED_STEPS, Unit, format_figure
from simulator.pages import result_charts
from simulator.pages.render import render
from simulator.results import verdict
from simulator.results.result import RunResult
from simulator.results.verdict import VerdictItem
from tracker.clock import to_datetime
from tracker.output.charts import Table
from tracker.output.report_lines import ReportLine, balance_line, report_lines
from tracker.queries.latencies import QUEUED_TO_FINAL, QUEUED_TO_GATEWAY, SPANS
from tracker.queries.report import Report
from tracker.queries.workload import Workload


def render_result_page(result: RunResult) -> str:
    """The page of a run that has ended, as HTML."""
    workloads = [each for each in result.workloads if each.step in TIMED_STEPS and each.tasks]
    return render(
        "result.html",
        {
            "title": f"{result.run.scenario.name} · run {result.run.id}",
            "result": result,
            "started": f"{to_datetime(result.run.started_at):%Y-%m-%d %H:%M:%S} UTC",
            "why_partial": verdict.explain_partial(result),
            "last_word": verdict.format_conclusion(result),
            "checks": list(verdict.check_result(result)),
            "warnings": [
                *verdict.list_warnings(result),
                *(each.summary for each in result.run.rejects),
            ],
            "notes": list(verdict.list_notes(result)),
            "tiles": list(_tiles(result)),
            "charts": result_charts.time_charts(result),
            "latency": _latency_table(result),
            "latency_chart": result_charts.latency_chart(result),
            "steps": _steps_table(workloads),
            "steps_chart": result_charts.steps_chart(workloads),
            "campaigns": list(_campaign_sections(result)),
            "reasons_chart": result_charts.reasons_chart(result.reports),
            "command": _repeat_command(result),
            "settings": _run_conditions(result),
        },
    )


class Tile(NamedTuple):
    """A figure that is shown large."""

    name: str
    value: str
    note: str = ""


def _tiles(result: RunResult) -> Iterator[Tile]:
    figures = result.figures
    yield Tile("messages", f"{result.run.size:,}", f"in {result.seconds:,.1f} s")
    yield Tile("throughput", format_figure(figures[THROUGHPUT], Unit.RATE), "to the gateway")
    for span in (QUEUED_TO_GATEWAY, QUEUED_TO_FINAL):
        latency = format_figure(figures[f"{span.name}.p95"], Unit.SECONDS)
        note = "95 % took no longer" if span is QUEUED_TO_GATEWAY else "Not Sent included"
        yield Tile(f"{span.label}, p95", latency, note)
    delivered = f"{figures['delivered'] or 0:,.0f} messages"
    yield Tile("delivered", format_figure(figures["delivered.share"], Unit.SHARE), delivered)


def _latency_table(result: RunResult) -> Table:
    return Table(
        ("stage", *PERCENTILES),
        tuple(
            (
                span.label,
                *(
                    format_figure(result.figures[f"{span.name}.{percentile}"], Unit.SECONDS)
                    for percentile in PERCENTILES
                ),
            )
            for span in SPANS
        ),
    )


def _steps_table(workloads: list[Workload]) -> Table:
    parts = [f"{part} {of}" for part in ("waiting", "service") for of in ("mean", "p50", "p95")]
    return Table(
        ("step", "tasks", "messages moved", *parts, "service in all"),
        tuple(
            (
                each.step.value,
                f"{each.tasks:,}",
                f"{each.moved:,}",
                *(
                    format_figure(value, Unit.SECONDS)
                    for part in (each.waiting, each.service)
                    for value in (
                        result_charts.mean_seconds(part),
                        part.percentile(50),
                        part.percentile(95),
                    )
                ),
                format_figure(each.service.seconds, Unit.SECONDS),
            )
            for each in workloads
        ),
    )


class CampaignPageSection(NamedTuple):
    """A campaign's report, the line that proves it, and how it compares to its prediction."""

    report: Report
    lines: list[ReportLine]
    balance: str
    checks: list[VerdictItem]


def _campaign_sections(result: RunResult) -> Iterator[CampaignPageSection]:
    zone: tzinfo = ZoneInfo(result.conditions.timezone)
    for report, comparison in zip(result.reports, result.prediction_checks, strict=True):
        yield CampaignPageSection(
            report,
            list(report_lines(report, zone)),
            balance_line(report),
            list(verdict.check_campaign(report, comparison)),
        )


def _repeat_command(result: RunResult) -> str:
    """What repeats the run, in a folder that has its scenario."""
    scenario, conditions = result.run.scenario, result.conditions
    name = scenario.path.name
    file = f"./{name}" if name.startswith("-") else name
    workers = ["--attach"] if conditions.workers is None else ["--workers", str(conditions.workers)]
    return shlex.join(
        [
            *("sendtrace", "simulate", file, "--seed", str(scenario.seed)),
            *(*workers, "--batch-size", str(conditions.batch_size)),
        ]
    )


def _run_conditions(result: RunResult) -> dict[str, dict[str, Any]]:
    """Under which conditions the run was made, by subject; what is empty is not known."""
    conditions = result.conditions
    workers = "attached" if conditions.workers is None else f"{conditions.workers:,}"
    return {
        "Settings": {
            "seed": result.run.scenario.seed,
            "workers": workers,
            "batch size": f"{conditions.batch_size:,}",
            "database": conditions.database,
            "time zone": conditions.timezone,
            "speed of the clock": f"{result.run.scenario.clock.speed:g}",
        },
        "Durability": dict(conditions.durability),
        "Machine" if conditions.workers else "Machine of the driver": dict(conditions.machine),
        "Versions": dict(conditions.versions),
    }
