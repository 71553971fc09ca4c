"""Write the pages of the documentation that are generated from the code: `make docs`."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.results import BenchmarkResult
from docs.reference_audience import audience_reference
from docs.reference_cli import cli_reference
from docs.reference_grafana import grafana_dashboard
from docs.reference_scenario import scenario_reference
from docs.reference_web import api_reference, metrics_reference
from docs.scenario_schema import format_schema, scenario_schema
from drills.results import DrillsFile
from tracker.campaign_states import CampaignState
from tracker.output.report_lines import NO_ROLLUP, NO_SHARE, SHARES_MEANING, all_report_lines
from tracker.queries.report import Report
from tracker.status import (
    FINAL_STATUSES,
    LATE_TRANSITIONS,
    LEGAL_TRANSITIONS,
    Category,
    Reason,
    Status,
)
from workers.rules.valid_candidate import VALID_CAMPAIGN

FOLDER = Path(__file__).parent


def lifecycle_page() -> str:
    """Return docs/lifecycle.md."""
    return "\n".join(_lifecycle_lines()) + "\n"


def _lifecycle_lines() -> Iterator[str]:
    yield "# The lifecycle of a message"
    yield ""
    yield "Generated from `tracker/status.py` by `make docs`."
    yield ""
    yield "```mermaid"
    yield "stateDiagram-v2"
    for source, targets in LEGAL_TRANSITIONS.items():
        for target in sorted(targets):
            late = " : late" if (source, target) in LATE_TRANSITIONS else ""
            yield f"    {source.slug if source is not None else '[*]'} --> {target.slug}{late}"
    for status in sorted(FINAL_STATUSES):
        yield f"    {status.slug} --> [*]"
    yield f"    {Status.SOFT_BOUNCED.slug} --> [*] : no attempt left"
    yield "```"
    yield ""
    yield "| code | status | meaning |"
    yield "|---|---|---|"
    for status in Status:
        yield f"| {status:d} | `{status.slug}` | {status.meaning} |"
    yield ""
    yield "## Why a message is Not Sent"
    yield ""
    yield "The first check that blocks a message, in this order within its step, gives the reason."
    for category in Category:
        yield ""
        yield f"### {category.heading} (`{category.value}`)"
        yield ""
        yield "| code | reason | step | meaning |"
        yield "|---|---|---|---|"
        for reason in Reason:
            if reason.category is category:
                step = reason.step or "any"
                yield f"| {reason:d} | `{reason.slug}` | {step} | {reason.meaning} |"


def report_page() -> str:
    """Return docs/report.md."""
    return "\n".join(_report_lines()) + "\n"


def _report_lines() -> Iterator[str]:
    yield "# The Live Monitoring Report"
    yield ""
    yield "Generated from `tracker/output/report_lines.py` by `make docs`."
    yield "Each customer has one message. Two sums hold at every instant:"
    yield ""
    yield "- Audience = Sent + Not Sent + In Progress + Scheduled"
    yield "- Sent = Delivered + Bounced + X"
    yield ""
    yield "A soft-bounced message that waits for its next attempt counts as bounced. The"
    yield "terminal leaves out reasons without messages; the JSON has all of them."
    yield "`sendtrace report --explain` prints the meaning below each line."
    yield ""
    yield f"{SHARES_MEANING} A share of zero messages is shown as {NO_SHARE}."
    yield "Marked as spam and Marked unsubscribed count as of now, Opened and Clicked as of the"
    yield "last rollup. Before the first rollup, Opened and Clicked show 0 without a share, and the"
    yield f'note "{NO_ROLLUP}".'
    yield ""
    yield "Engagement of a message that bounced later isn't a part of Delivered. The JSON counts"
    yield "such messages in `sent.engaged_then_bounced`, as of now. Opens and clicks leave them out"
    yield "from the next rollup on. `sent.engagement_as_of` is the time of the last rollup, by the"
    yield "clock of the campaign's run. Once the run is over, it is in real time."
    yield ""
    yield "`sendtrace report --days` prints the rolled-up engagement by local day. A recipient"
    yield "counts on the day of the first open, of the first click and so on."
    yield ""
    yield "| line | JSON (`sendtrace report --format json`) | meaning |"
    yield "|---|---|---|"
    report = Report(
        campaign=VALID_CAMPAIGN,
        audience=0,
        recorded=0,
        counts=Counter(),
        state=CampaignState.SCHEDULED,
        as_of=0,
    )
    for line in all_report_lines(report):
        indent = "&nbsp;" * 4 * line.level
        yield f"| {indent}{line.label} | `{line.path}` | {line.meaning} |"
    yield ""
    yield "## States"
    yield ""
    yield "A campaign has the state of its run, unless it is paused or cancelled. It is scheduled"
    yield "until its first message is queued."
    yield ""
    yield "| state | meaning |"
    yield "|---|---|"
    for state in CampaignState:
        yield f"| {state} | {state.meaning} |"
    yield ""
    yield "A run's driver records a heartbeat every three seconds. A run without one for 30 s is"
    yield "abandoned. The time before a start of the PostgreSQL server doesn't count, nor does an"
    yield "outage that the live page has noticed. If the driver continues, its run is"
    yield "running again. The sweep of a stack completes the queued messages of an abandoned run."


def bench_schema() -> str:
    """Return docs/bench.schema.json."""
    return format_schema(BenchmarkResult.model_json_schema())


def drills_schema() -> str:
    """Return docs/drills.schema.json."""
    return format_schema(DrillsFile.model_json_schema())


GENERATED_PAGES: Mapping[str, Callable[[], str]] = {
    "lifecycle.md": lifecycle_page,
    "report.md": report_page,
    "cli.md": cli_reference,
    "scenario.md": scenario_reference,
    "scenario.schema.json": scenario_schema,
    "bench.schema.json": bench_schema,
    "drills.schema.json": drills_schema,
    "audience-file.md": audience_reference,
    "api.md": api_reference,
    "metrics.md": metrics_reference,
    "grafana/sendtrace.json": grafana_dashboard,
}
"""The generated files of this folder, each with the function that returns its text."""


def main() -> None:
    """Write all generated pages."""
    for name, render in GENERATED_PAGES.items():
        (FOLDER / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
