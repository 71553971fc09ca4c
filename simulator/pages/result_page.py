"""The result page of a run: one file to open, print and mail."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from simulator.figures import PERCENTILES, THROUGHPUT, TIMED_STEPS, Unit, format_figure
from simulator.pages import result_charts
from simulator.pages.render import render_template
from simulator.pages.result_summary import summarize_reports
from simulator.results import verdict
from simulator.results.result import BATCH_RESOLUTION, RunResult
from simulator.results.verdict import VerdictItem
from tracker.clock import to_datetime
from tracker.output.charts import Table, draw_charts
from tracker.output.report_lines import (
    SHARES_MEANING,
    ReportLine,
    balance_line,
    describe_titles,
    format_origin_time,
    report_lines,
)
from tracker.output.svg import draw_svgs_in_child
from tracker.queries.durations.latencies import QUEUED_TO_FINAL, QUEUED_TO_GATEWAY, SPANS, Latencies
from tracker.queries.durations.workload import Workload
from tracker.queries.report import Report


class Tile(NamedTuple):
    """A key figure, shown large."""

    name: str
    value: str
    note: str = ""


class CampaignPageSection(NamedTuple):
    """A campaign's report, its balance, and its check against the prediction."""

    report: Report
    titles: str
    as_of: str
    lines: list[ReportLine]
    balance: str
    checks: list[VerdictItem]


def render_result_page(result: RunResult) -> str:
    """Return the result page of a run, as HTML."""
    workloads = [
        workload for workload in result.workloads if workload.step in TIMED_STEPS and workload.tasks
    ]
    rejects = [audience.summary for audience in result.run.imports if audience.rejects]
    *charts, latency_chart, steps_chart, reasons_chart = draw_charts(
        [
            *result_charts.time_charts(result),
            result_charts.latency_chart(result),
            result_charts.steps_chart(workloads),
            result_charts.reasons_chart(result.reports),
        ],
        draw_svgs_in_child,
    )
    return render_template(
        "result.html",
        {
            "title": f"{result.run.scenario.name} · run {result.run.id}",
            "result": result,
            "started": f"{to_datetime(result.run.started_at):%Y-%m-%d %H:%M:%S} UTC",
            "partial_reason": verdict.explain_partial(result),
            "summary": summarize_reports(result.reports, ZoneInfo(result.conditions.timezone)),
            "verdict_text": verdict.format_conclusion(result),
            "checks": list(verdict.check_result(result)),
            "warnings": [*verdict.list_warnings(result), *rejects],
            "notes": list(verdict.list_notes(result)),
            "tiles": list(_make_tiles(result)),
            "charts": charts,
            "latency": _latency_table(result),
            "latency_chart": latency_chart,
            "steps": _steps_table(workloads),
            "steps_chart": steps_chart,
            "campaigns": list(_campaign_sections(result)),
            "shares_meaning": SHARES_MEANING,
            "reasons_chart": reasons_chart,
            "command": _reproduction_command(result),
            "settings": _run_conditions(result),
        },
    )


def _make_tiles(result: RunResult) -> Iterator[Tile]:
    figures = result.figures
    yield Tile("messages", f"{result.run.size:,}", f"last step after {result.seconds:,.1f} s")
    yield Tile("throughput", format_figure(figures[THROUGHPUT], Unit.RATE), "to the gateway")
    for span, note in (
        (QUEUED_TO_GATEWAY, "95 % took no longer"),
        (QUEUED_TO_FINAL, "Not Sent included"),
    ):
        latency = format_figure(figures[f"{span.name}.p95"], Unit.SECONDS)
        yield Tile(f"{span.label}, p95", latency, note)
    delivered = f"{figures['delivered'] or 0:,.0f} of {result.run.size:,} messages"
    yield Tile("delivered", format_figure(figures["delivered.share"], Unit.SHARE), delivered)


def _latency_table(result: RunResult) -> Table:
    rows = []
    for span in SPANS:
        seconds = [result.figures[f"{span.name}.{percentile}"] for percentile in PERCENTILES]
        resolution = BATCH_RESOLUTION if span in result.batch_spans else ""
        latencies = (format_figure(value, Unit.SECONDS) for value in seconds)
        rows.append((span.label, *latencies, resolution))
    return Table(("stage", *PERCENTILES, "resolution"), tuple(rows))


def _steps_table(workloads: Sequence[Workload]) -> Table:
    statistics = ("mean", "p50", "p95")
    return Table(
        (
            "step",
            "tasks",
            "messages moved",
            *(f"waiting {statistic}" for statistic in statistics),
            *(f"service {statistic}" for statistic in statistics),
            "service in total",
        ),
        tuple(
            (
                workload.step.value,
                f"{workload.tasks:,}",
                f"{workload.moved:,}",
                *_format_statistics(workload.waiting),
                *_format_statistics(workload.service),
                format_figure(workload.service.total_seconds, Unit.SECONDS),
            )
            for workload in workloads
        ),
    )


def _format_statistics(latencies: Latencies) -> list[str]:
    values = (
        result_charts.mean_seconds(latencies),
        latencies.percentile(50),
        latencies.percentile(95),
    )
    return [format_figure(value, Unit.SECONDS) for value in values]


def _campaign_sections(result: RunResult) -> Iterator[CampaignPageSection]:
    zone = ZoneInfo(result.conditions.timezone)
    for report, prediction_check in zip(result.reports, result.prediction_checks, strict=True):
        yield CampaignPageSection(
            report,
            describe_titles(report),
            format_origin_time(report.origin, zone),
            list(report_lines(report, zone)),
            balance_line(report),
            list(verdict.check_campaign(report, prediction_check)),
        )


def _reproduction_command(result: RunResult) -> str:
    """Return the shell command that repeats the run, in a folder with its scenario file."""
    scenario, conditions = result.run.scenario, result.conditions
    name = scenario.path.name
    file = f"./{name}" if name.startswith("-") else name
    workers = ["--attach"] if conditions.workers is None else ["--workers", str(conditions.workers)]
    command = ["sendtrace", "simulate", file, "--seed", str(scenario.seed)]
    return shlex.join([*command, *workers, "--batch-size", str(conditions.batch_size)])


def _run_conditions(result: RunResult) -> dict[str, dict[str, Any]]:
    """Return the conditions of the run by subject; an empty subject is unknown."""
    conditions = result.conditions
    is_attached = conditions.workers is None
    return {
        "Settings": {
            "seed": result.run.scenario.seed,
            "workers": "attached" if is_attached else f"{conditions.workers:,}",
            "batch size": f"{conditions.batch_size:,}",
            "database": conditions.database,
            "time zone": conditions.timezone,
            "clock speed": f"{result.run.scenario.clock.speed:g}",
        },
        "Durability": dict(conditions.durability),
        "Machine of the driver" if is_attached else "Machine": dict(conditions.machine),
        "Versions": dict(conditions.versions),
    }
