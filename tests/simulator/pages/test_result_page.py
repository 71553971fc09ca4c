"""The result page of a run: one file with its content, and results with missing values."""

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from simulator.pages.result_page import render_result_page
from simulator.results.limits.causes import LimitCause, RunLimit
from simulator.results.observations import UNOBSERVED_CAUSE, DriverObservations, RunState
from simulator.results.result import RunResult
from simulator.results.timeseries import SECOND, Timeseries
from simulator.results.withheld import WithheldMessages
from simulator.scenario.file import Scenario
from simulator.schema import open_database
from simulator.setup.record import record_run
from tests.support.factory import in_gateway, make_report
from tests.support.inline_runs import (
    build_campaign,
    build_plan,
    build_scenario,
    judge_recorded_run,
    run_scenario,
)
from tracker.output.report_lines import MEANINGS, balance_line, report_lines
from tracker.queries.durations.latencies import SPANS
from tracker.settings import load_settings
from tracker.status import Reason, Status
from tracker.store.database import Database

SVG = "{http://www.w3.org/2000/svg}"

DEFECTS = {"unsubscribed": 0.2, "email_missing": 0.1}


def scenario(**changes: Any) -> Scenario:
    values: dict[str, Any] = {
        "name": "two-seasons",
        "text": 'name = "two-seasons"',
        "path": Path("seasons/two seasons.toml"),
        "thresholds": {
            "delivered.share": ">= 10 %",
            "queued_to_final.p95": "< 0s",
            "workers.memory": "< 1GB",
        },
    }
    return build_scenario(
        build_campaign("spring", audience=60, defects=DEFECTS),
        build_campaign("summer", audience=20),
        **(values | changes),
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Open a SQLite database; one backend is enough, as pages are made from the result only."""
    home = tmp_path_factory.mktemp("page")
    settings = load_settings(home=home, database_url=f"sqlite:///{home / 'sendtrace.db'}")
    settings.prepare_home()
    database = open_database(settings)
    yield database
    database.close()


@pytest.fixture(scope="module")
def result(database: Database, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Return a result with figures, reasons and thresholds, but without samples."""
    played = run_scenario(database, scenario(), tmp_path_factory.mktemp("rejects"))
    conditions = replace(
        played.conditions,
        durability={"synchronous": "full"},
        machine={"cores": "2"},
        versions={"sendtrace": "9.8.7"},
    )
    return replace(played, conditions=conditions)


@pytest.fixture(scope="module")
def sampled(result: RunResult) -> RunResult:
    """Return the result with samples of its queues and workers."""
    columns = {
        name: np.resize(column, 5) if np.nansum(column) else np.arange(5.0)
        for name, column in result.curves.columns.items()
    }
    columns[SECOND] = np.arange(5.0)
    return replace(
        result,
        curves=Timeseries(1, columns),
        conditions=replace(result.conditions, workers=3),
    )


@pytest.fixture(scope="module")
def page(result: RunResult) -> str:
    return render_result_page(result)


def words(page: str) -> str:
    """Return the visible text of a page, with single blanks."""
    visible = re.sub(r"<style>.*?</style>", " ", page, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", visible)).split())


def figures_of(page: str) -> list[str]:
    return re.findall(r"<figure>.*?</figure>", page, re.S)


def heading(figure: str) -> str:
    [title] = re.findall(r"<h3>(.*?)</h3>", figure)
    return unescape(title)


class Nesting(HTMLParser):
    """A check that elements are closed in the order in which they are opened."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag not in self.VOID:
            self.open.append(tag)
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """Ignore an element that closes itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_html_is_well_formed(page: str) -> None:
    nesting = Nesting()
    nesting.feed(page)
    assert nesting.open == []
    assert page.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in page
    assert nesting.headings[:2] == [1, 2]
    steps = zip(nesting.headings, nesting.headings[1:], strict=False)
    assert all(next_ - heading <= 1 for heading, next_ in steps)


def test_the_page_loads_nothing_and_runs_nothing(sampled: RunResult) -> None:
    page = render_result_page(sampled)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    rest = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for way in ("http:", "https:", "src=", "<script", "<link", "<iframe", "@import", "url("):
        assert way not in rest
    assert re.findall(r"\son\w+=", rest) == []
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', rest))


def test_the_header_names_the_run(result: RunResult, page: str) -> None:
    text = words(page)
    assert text.startswith(f"two-seasons · run {result.run.id} · sendtrace")
    assert "seed 42" in text
    assert re.search(r"started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC finished", text)


def test_the_verdict_lists_its_checks(page: str) -> None:
    text = words(page)
    assert "✘ Failed 2 of 3 thresholds not met" in text
    assert re.search(r"balanced every sum adds up", text)
    assert re.search(r"matches prediction 80 of 80 messages", text)
    assert re.search(r"invariants (\d+) of \1 hold", text)
    assert "thresholds 1 of 3 met" in text


def test_each_threshold_is_shown_with_its_value(page: str) -> None:
    text = words(page)
    assert re.search(r"delivered\.share >= 10 % \d+\.\d\d % ✔ met", text)
    assert re.search(r"queued_to_final\.p95 < 0s \d+\.\d\d\d s ✘ missed", text)
    assert "workers.memory < 1GB - ✘ missed" in text


def test_a_run_that_passed(database: Database, tmp_path: Path) -> None:
    text = words(render_result_page(run_scenario(database, scenario(thresholds={}), tmp_path)))
    assert "✔ Passed balanced, invariants hold, every message matches its prediction" in text
    assert "The scenario has no thresholds." in text


def summary_of(page: str) -> str:
    """Return the visible text of the page before its checks."""
    return words(page[: page.index('<section aria-labelledby="checks">')])


def test_the_page_begins_with_a_summary_for_everybody(result: RunResult, page: str) -> None:
    spring, summer = result.reports
    sent, not_sent = spring.sent + summer.sent, spring.not_sent + summer.not_sent
    delivered, bounced = spring.delivered + summer.delivered, spring.bounced + summer.bounced
    unsubscribed = spring.count_messages(Status.NOT_SENT, Reason.UNSUBSCRIBED)
    missing = spring.count_messages(Status.NOT_SENT, Reason.EMAIL_MISSING)
    text = summary_of(page)
    assert "✘ Failed" in text
    assert (
        f"Sent: {sent} of 80 messages ({100 * sent / 80:.1f} %), of which {delivered} were"
        f" delivered and {bounced} bounced. Not Sent: {not_sent} ({100 * not_sent / 80:.1f} %):"
        f" Unsubscribed ({unsubscribed}), Email address missing ({missing})." in text
    )
    assert f"{result.limit.sentence}. {result.limit.change}." in text
    for path, count, share in (
        ("sent.total", sent, sent / 80),
        ("sent.delivered", delivered, delivered / sent),
        ("not_sent.internally_suppressed.total", unsubscribed, unsubscribed / 80),
    ):
        assert f"{count} {100 * share:.1f} % {MEANINGS[path]}" in text, path
    assert f"Audience 80 {MEANINGS['audience']}" in text
    assert MEANINGS["not_sent.system_error.total"] not in text, "no message has such a reason"


def test_the_summary_says_what_the_gateway_never_reported(result: RunResult) -> None:
    spring, summer = result.reports
    counts = {in_gateway(): 50, replace(in_gateway(), status=Status.NOT_DELIVERED): 2}
    silent = make_report(counts, campaign=spring.campaign)
    text = summary_of(render_result_page(replace(result, reports=(silent, summer))))
    assert "bounced, 2 were not delivered and 50 remained in the gateway" in text
    missing = "(50 receipts never came during the run)"
    assert text.count(missing) == 2, "in the sentence and in the table"


def test_the_summary_says_what_is_missing_of_a_partial_run(
    database: Database, tmp_path: Path
) -> None:
    run = record_run(database, scenario(), tmp_path, lambda _: None)
    text = summary_of(render_result_page(judge_recorded_run(database, run)))
    assert "Sent: 0 of 80 messages (0.0 %)" in text
    assert "Scheduled: 80." in text
    assert f"Scheduled 80 100.0 % {MEANINGS['scheduled']}" in text


def test_the_charts_of_a_killed_driver_say_why_they_are_empty(result: RunResult) -> None:
    observed = replace(result.observations, state=RunState.ABANDONED, drivers=[None])
    conditions = replace(result.conditions, workers=2)
    text = words(render_result_page(replace(result, observations=observed, conditions=conditions)))
    assert text.count(f"No chart: {UNOBSERVED_CAUSE}.") == 4, "tasks twice, CPU and memory"
    assert "no samples were taken" not in text


@pytest.mark.parametrize("state", [RunState.INTERRUPTED, RunState.ABORTED])
def test_a_partial_result_is_marked(result: RunResult, state: RunState) -> None:
    aborted = result.thresholds[1].threshold if state is RunState.ABORTED else None
    observed = replace(
        result.observations,
        state=state,
        planned=1_000,
        drivers=[DriverObservations(aborted_by=aborted)],
    )
    text = words(render_result_page(replace(result, observations=observed)))
    assert f"UTC partial: {state}" in text
    why = "aborted: queued_to_final.p95 < 0s could no longer be met" if aborted else "interrupted"
    assert f"Partial result: {why}; 80 of 1,000 messages were queued." in text
    assert f"✘ Failed partial: {why}" in text


def test_differences_from_the_prediction_are_named(result: RunResult) -> None:
    first, second = result.prediction_checks
    differing = replace(result, prediction_checks=(first, replace(second, matching=19)))
    text = words(render_result_page(differing))
    assert "79 of 80 messages see the differences of summer below" in text
    assert "19 of 20 messages" in text
    why = f"1 message differs from the prediction; see sendtrace report --run {result.run.id}"
    assert f"✘ Failed {why}" in text


def test_a_broken_invariant_is_named(result: RunResult) -> None:
    first, *others = result.invariant_results
    broken = replace(first, violation_count=7, examples=({"number": 3},))
    text = words(render_result_page(replace(result, invariant_results=(broken, *others))))
    assert f"{len(others)} of {len(others) + 1} hold" in text
    assert first.invariant.claim in text
    assert "7 wrong; the first: number 3" in text


def test_driver_lag_is_a_warning(result: RunResult) -> None:
    slow = {"spring.driver_lag.p95": 3.0, "spring.queued_to_gateway.p95": 4.0}
    [first, *others] = result.run.campaigns
    paced = build_plan(build_campaign(audience=60, load={"shape": {"constant": 10}}))
    run = replace(
        result.run,
        campaigns=(replace(first, plan=paced), *others),
    )
    lagging = replace(result, figures={**result.figures, **slow}, run=run)
    assert lagging.has_driver_lag
    assert "The driver lagged behind the arrivals" in words(render_result_page(lagging))


@pytest.mark.parametrize(
    ("handed", "left", "cause"),
    [
        (20, 40, LimitCause.DATABASE),
        (20, 40, LimitCause.GATEWAY_RATE),
        (20, 40, LimitCause.UNKNOWN),
        (48, 0, LimitCause.DATABASE),
    ],
)
def test_a_backlog_is_a_warning(
    result: RunResult, handed: int, left: int, cause: LimitCause
) -> None:
    paced = build_plan(build_campaign(audience=60, load={"shape": {"constant": 10}}))
    [first, *_] = result.run.campaigns
    loaded = replace(first, size=60, plan=paced)
    columns = {name: np.zeros(2) for name in result.timeseries.columns}
    columns |= {"arrivals": np.array([60.0, 0.0]), "in_gateway": np.array([handed, 60.0 - handed])}
    series = Timeseries(1, columns)
    run = replace(result.run, campaigns=(loaded,))
    limit = RunLimit(cause, "It", "seen", "Changed")
    late = replace(result, run=run, timeseries=series, curves=series, limit=limit)
    assert late.backlog == left
    text = words(render_result_page(late))
    assert (f"{left} of 60 messages had not reached the gateway" in text) == bool(left)
    is_of_the_system = bool(left) and cause is LimitCause.DATABASE
    assert ("The system did not keep up" in text) == is_of_the_system


def test_unavailable_figures_are_named(page: str) -> None:
    text = words(page)
    assert "Not available: workers.cpu, workers.memory, as the workers were attached." in text
    assert "No chart: no samples were taken." in text
    assert text.count("No chart: the workers were attached: what they use") == 2


def test_the_key_figures_are_tiles(result: RunResult, page: str) -> None:
    [tiles] = re.findall(r'<dl class="tiles">.*?</dl>', page, re.S)
    assert re.findall(r"<dt>(.*?)</dt>", tiles) == [
        "messages",
        "throughput",
        "queued → gateway, p95",
        "queued → final, p95",
        "delivered",
    ]
    delivered = result.figures["delivered.share"]
    assert delivered is not None
    assert f"<b>{100 * delivered:.2f} %</b>" in tiles
    assert f"{round(80 * delivered)} of 80 messages" in tiles


CHARTS = (
    "Arrivals and hand-overs",
    "Messages in flight",
    "Latency, queued → gateway",
    "Latency, queued → final",
    "Ready tasks by queue",
    "Unacked tasks by queue",
    "CPU of the workers",
    "Memory of the workers",
    "Latency by stage",
    "Task time by step",
    "Not Sent by reason",
)


def test_each_chart_has_axes_marks_and_data(sampled: RunResult) -> None:
    figures = figures_of(render_result_page(sampled))
    assert tuple(map(heading, figures)) == CHARTS
    for figure in figures:
        [svg] = re.findall(r'<svg xmlns[^>]* class="chart".*?</svg>', figure, re.S)
        picture = ElementTree.fromstring(svg)  # noqa: S314  # our own output
        assert picture.get("role") == "img"
        assert str(picture.get("aria-label")).startswith(heading(figure))
        classes = " ".join(element.get("class", "") for element in picture.iter())
        assert "role-axis-title" in classes
        assert "role-mark" in classes
        assert "<details>" in figure
        assert "<td" in figure


def test_each_axis_has_a_unit(sampled: RunResult) -> None:
    figures = {heading(figure): words(figure) for figure in figures_of(render_result_page(sampled))}
    for title, unit in zip(
        CHARTS,
        ("messages a second", "messages", "seconds", "seconds", "tasks", "tasks", "cores", "MB"),
        strict=False,
    ):
        assert unit in figures[title]
        assert "seconds since the start" in figures[title]


def test_the_time_axis_of_a_long_run_has_minutes(sampled: RunResult) -> None:
    columns = {**sampled.curves.columns, SECOND: np.arange(5.0) * 300}
    text = words(render_result_page(replace(sampled, curves=Timeseries(300, columns))))
    assert "Each value covers 300 seconds." in text
    assert "minutes since the start" in text


def test_the_latency_table_has_exact_percentiles(result: RunResult, page: str) -> None:
    text = words(page)
    assert "stage p50 p90 p95 p99 p99.9 max" in text
    for span in SPANS:
        value = result.figures[f"{span.name}.p99.9"]
        assert value is not None
        assert re.search(rf"{span.label}( \d+\.\d+ s){{4}} {value:.3f} s", text)


def test_each_step_is_shown_with_its_tasks(result: RunResult, page: str) -> None:
    for workload in result.workloads:
        if workload.step != "enqueue" and workload.tasks:
            cells = (
                f">{workload.step.value}</th>",
                f">{workload.tasks}</td>",
                f">{workload.moved}</td>",
            )
            row = ".*?".join(cells)
            assert re.search(row, page)


def test_the_report_has_all_its_lines(result: RunResult, page: str) -> None:
    text = words(page)
    for report in result.reports:
        for line in report_lines(report):
            parts = (line.label, line.meaning, f"{line.count:,}", line.share, line.note)
            assert " ".join(part for part in parts if part) in text
        origin = f"run {report.campaign.run_id} · seed {report.campaign.seed} · "
        assert re.search(re.escape(origin) + r"[^·]* finished ", text)
        assert " ".join(balance_line(report).split()) in text


def test_reasons_that_did_not_occur_are_left_out(page: str) -> None:
    reasons = words(figures_of(page)[-1])
    assert "Unsubscribed" in reasons
    assert "Email address missing" in reasons
    assert "Coupon" not in reasons


def test_the_command_and_the_conditions_reproduce_the_run(page: str) -> None:
    text = words(page)
    assert (
        "sendtrace simulate 'two seasons.toml' --seed 42 --attach --batch-size 80 Settings" in text
    )
    assert 'name = "two-seasons"' in text
    for name, value in (("synchronous", "full"), ("cores", "2"), ("sendtrace", "9.8.7")):
        assert f"{name} {value}" in text


def test_the_command_has_the_number_of_own_workers(sampled: RunResult) -> None:
    assert "--seed 42 --workers 3 --batch-size 80" in words(render_result_page(sampled))


def test_values_from_files_and_options_are_escaped(
    result: RunResult, database: Database, tmp_path: Path
) -> None:
    bad = "</pre><script>alert('1')</script>\"&amp;"
    hostile = run_scenario(database, scenario(text=bad, path=Path(f"x/{bad}.toml")), tmp_path)
    machine = {bad: bad}
    page = render_result_page(
        replace(
            hostile,
            withheld={bad: WithheldMessages(predicted=1, actual=2)},
            conditions=replace(hostile.conditions, machine=machine, database=bad),
        )
    )
    assert "<script" not in page
    assert f"2 of {bad}'s messages, over the message limit" in words(page)
    _command, code = re.findall(r"<pre><code>(.*?)</code></pre>", page, re.S)
    assert unescape(code) == bad


def test_an_empty_run_has_a_page(database: Database, tmp_path: Path) -> None:
    run = record_run(database, scenario(), tmp_path, lambda _: None)
    text = words(render_result_page(judge_recorded_run(database, run)))
    assert text.count("No chart: ") == len(CHARTS)
    assert "No chart: no message arrived." in text
    assert "opened or not. 0 –" in text


def test_a_campaign_that_never_began_matches_nothing(result: RunResult) -> None:
    first, second = result.prediction_checks
    checks = (first, replace(second, messages=0, matching=0))
    text = words(render_result_page(replace(result, prediction_checks=checks)))
    assert "matches prediction nothing was queued" in text
    assert "0 of 0 messages" not in text


def test_unknown_values_have_a_page(result: RunResult) -> None:
    columns = {name: np.full(1, np.nan) for name in result.curves.columns} | {SECOND: np.zeros(1)}
    unknown = replace(
        result,
        curves=Timeseries(1, columns),
        figures=dict.fromkeys(result.figures),
        workloads=(),
    )
    text = words(render_result_page(unknown))
    assert text.count("No chart: ") == len(CHARTS) - 1
    assert "No chart: no message was in flight at the end of any second." in text
    assert "throughput - to the gateway" in text
