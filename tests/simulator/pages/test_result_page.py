"""The page of a run: everything is on it, nothing comes from elsewhere, and little will do."""

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
from simulator.results.result import RunResult, RunState, WithheldMessages
from simulator.results.timeseries import SECOND, Timeseries
from simulator.scenario.file import Scenario
from simulator.schema import open_database
from simulator.setup.record import record_run
from tests.support.playing import campaign_of, judged, plan_of, play, scenario_of
from tracker.output.report_lines import balance_line, report_lines
from tracker.queries.latencies import SPANS
from tracker.settings import load_settings
from tracker.store.database import Database

SVG = "{http://www.w3.org/2000/svg}"

DEFECTS = {"unsubscribed": 0.2, "email_missing": 0.1}


def scenario(**different: Any) -> Scenario:
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
    return scenario_of(
        campaign_of("spring", audience=60, defects=DEFECTS),
        campaign_of("summer", audience=20),
        **(values | different),
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database whose kind does not matter: the page is of the result."""
    home = tmp_path_factory.mktemp("page")
    settings = load_settings(home=home, database_url=f"sqlite:///{home / 'sendtrace.db'}")
    settings.prepare_home()
    opened = open_database(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def result(database: Database, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A result with figures, reasons and thresholds. It has no samples, as nobody took any."""
    played = play(database, scenario(), tmp_path_factory.mktemp("rejects"))
    conditions = replace(
        played.conditions,
        durability={"synchronous": "full"},
        machine={"cores": "2"},
        versions={"sendtrace": "9.8.7"},
    )
    return replace(played, conditions=conditions)


@pytest.fixture(scope="module")
def sampled(result: RunResult) -> RunResult:
    """The same, had its queues and workers been looked at."""
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
    """What a person reads of a page, with single blanks."""
    visible = re.sub(r"<style>.*?</style>", " ", page, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", visible)).split())


def figures_of(page: str) -> list[str]:
    return re.findall(r"<figure>.*?</figure>", page, re.S)


def heading(figure: str) -> str:
    [title] = re.findall(r"<h3>(.*?)</h3>", figure)
    return unescape(title)


class Nesting(HTMLParser):
    """Sees whether every element is closed where it must be."""

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
        """Such an element is closed by itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_is_proper_html(page: str) -> None:
    nesting = Nesting()
    nesting.feed(page)
    assert nesting.open == []
    assert page.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in page
    assert nesting.headings[:2] == [1, 2]
    steps = zip(nesting.headings, nesting.headings[1:], strict=False)
    assert all(next_ - heading <= 1 for heading, next_ in steps)


def test_it_loads_and_runs_nothing(sampled: RunResult) -> None:
    page = render_result_page(sampled)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    rest = page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    for way in ("http:", "https:", "src=", "<script", "<link", "<iframe", "@import", "url("):
        assert way not in rest
    assert re.findall(r"\son\w+=", rest) == []
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', rest))


def test_it_says_of_which_run_it_is(result: RunResult, page: str) -> None:
    said = words(page)
    assert said.startswith(f"two-seasons · run {result.run.id} · sendtrace")
    assert "seed 42" in said
    assert re.search(r"started \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC complete", said)


def test_it_judges(page: str) -> None:
    said = words(page)
    assert "✘ Failed 2 thresholds of 3 not met" in said
    assert re.search(r"balanced every sum adds up", said)
    assert re.search(r"as predicted 80 of 80 messages", said)
    assert re.search(r"invariants (\d+) of \1 hold", said)
    assert "thresholds 1 of 3 met" in said


def test_each_threshold_has_its_figure(page: str) -> None:
    said = words(page)
    assert re.search(r"delivered\.share >= 10 % \d+\.\d\d % ✔ met", said)
    assert re.search(r"queued_to_final\.p95 < 0s \d+\.\d\d\d s ✘ not met", said)
    assert "workers.memory < 1GB - ✘ not met" in said


def test_who_passed_did_so(database: Database, tmp_path: Path) -> None:
    said = words(render_result_page(play(database, scenario(thresholds={}), tmp_path)))
    assert "✔ Passed balanced, invariants hold, every message as predicted" in said
    assert "it has no thresholds" in said


@pytest.mark.parametrize("state", [RunState.INTERRUPTED, RunState.ABORTED])
def test_a_partial_result_says_so(result: RunResult, state: RunState) -> None:
    aborted = result.thresholds[1].threshold if state is RunState.ABORTED else None
    observed = replace(result.observations, state=state, planned=1_000, aborted_by=aborted)
    said = words(render_result_page(replace(result, observations=observed)))
    assert f"UTC partial: {state}" in said
    why = "aborted as queued_to_final.p95 could not be < 0s" if aborted else "interrupted"
    assert f"Partial result: {why}; 80 of 1,000 messages were sent." in said
    assert f"✘ Failed partial: {why}" in said


def test_what_differs_is_told(result: RunResult) -> None:
    first, second = result.prediction_checks
    differing = replace(result, prediction_checks=(first, replace(second, matching=19)))
    said = words(render_result_page(differing))
    assert "79 of 80 messages what differs is below, at summer" in said
    assert "19 of 20 messages" in said
    assert f"✘ Failed see sendtrace report --run {result.run.id}" in said


def test_a_broken_invariant_is_told(result: RunResult) -> None:
    first, *others = result.invariant_results
    broken = replace(first, wrong=7, examples=({"number": 3},))
    said = words(render_result_page(replace(result, invariant_results=(broken, *others))))
    assert f"{len(others)} of {len(others) + 1} hold" in said
    assert first.invariant.claim in said
    assert "7 wrong; the first: number 3" in said


def test_what_to_beware_of_is_said(result: RunResult) -> None:
    slow = {"spring.driver_lag.p95": 3.0, "spring.queued_to_gateway.p95": 4.0}
    [first, *others] = result.run.campaigns
    paced = plan_of(campaign_of(audience=60, load={"shape": {"constant": 10}}))
    run = replace(
        result.run,
        campaigns=(replace(first, plan=paced), *others),
    )
    lagging = replace(result, figures={**result.figures, **slow}, run=run)
    assert lagging.has_driver_lag
    assert "The driver lagged behind the arrivals" in words(render_result_page(lagging))


@pytest.mark.parametrize(("handed", "left"), [(20, 40), (48, 0)])
def test_that_the_system_did_not_keep_up_is_said(result: RunResult, handed: int, left: int) -> None:
    paced = plan_of(campaign_of(audience=60, load={"shape": {"constant": 10}}))
    [first, *_] = result.run.campaigns
    loaded = replace(first, size=60, plan=paced)
    columns = {name: np.zeros(2) for name in result.timeseries.columns}
    columns |= {"arrivals": np.array([60.0, 0.0]), "in_gateway": np.array([handed, 60.0 - handed])}
    series = Timeseries(1, columns)
    run = replace(result.run, campaigns=(loaded,))
    late = replace(result, run=run, timeseries=series, curves=series)
    assert late.backlog == left
    said = f"The system did not keep up: {left} of 60 messages had not reached the gateway"
    assert (said in words(render_result_page(late))) == bool(left)


def test_what_is_not_known_is_said(page: str) -> None:
    said = words(page)
    assert "Not known: workers.cpu, workers.memory, as workers were attached." in said
    assert "Nothing to draw: no samples were taken." in said
    assert said.count("Nothing to draw: the workers were attached: what they use") == 2


def test_the_key_figures_are_large(result: RunResult, page: str) -> None:
    [tiles] = re.findall(r'<dl class="tiles">.*?</dl>', page, re.S)
    assert re.findall(r"<dt>(.*?)</dt>", tiles) == [
        *("messages", "throughput", "queued → gateway, p95", "queued → final, p95", "delivered"),
    ]
    delivered = result.figures["delivered.share"]
    assert delivered is not None
    assert f"<b>{100 * delivered:.2f} %</b>" in tiles


CHARTS = (
    "Arrivals and hand-overs",
    "Messages in flight",
    "Latency, queued → gateway",
    "Latency, queued → final",
    "Tasks that wait, by queue",
    "Tasks that workers hold, by queue",
    "CPU of the workers",
    "Memory of the workers",
    "Latency by stage",
    "Time of a task, by step",
    "Not Sent by reason",
)


def test_each_chart_is_a_picture_with_axes_and_data(sampled: RunResult) -> None:
    figures = figures_of(render_result_page(sampled))
    assert tuple(map(heading, figures)) == CHARTS
    for figure in figures:
        [svg] = re.findall(r'<svg xmlns[^>]* class="chart".*?</svg>', figure, re.S)
        picture = ElementTree.fromstring(svg)  # noqa: S314  # it is ours
        assert picture.get("role") == "img"
        assert str(picture.get("aria-label")).startswith(heading(figure))
        classes = " ".join(each.get("class", "") for each in picture.iter())
        assert "role-axis-title" in classes
        assert "role-mark" in classes
        assert "<details>" in figure
        assert "<td" in figure


def test_a_picture_has_the_units_of_its_axes(sampled: RunResult) -> None:
    figures = {heading(each): words(each) for each in figures_of(render_result_page(sampled))}
    for title, unit in zip(
        CHARTS,
        ("messages a second", "messages", "seconds", "seconds", "tasks", "tasks", "cores", "MB"),
        strict=False,
    ):
        assert unit in figures[title]
        assert "seconds since the start" in figures[title]


def test_a_long_run_is_drawn_in_minutes(sampled: RunResult) -> None:
    columns = {**sampled.curves.columns, SECOND: np.arange(5.0) * 300}
    said = words(render_result_page(replace(sampled, curves=Timeseries(300, columns))))
    assert "Each value is of 300 seconds." in said
    assert "minutes since the start" in said


def test_latencies_of_all_stages_are_exact(result: RunResult, page: str) -> None:
    said = words(page)
    assert "stage p50 p90 p95 p99 p99.9 max" in said
    for span in SPANS:
        value = result.figures[f"{span.name}.p99.9"]
        assert value is not None
        assert re.search(rf"{span.label}( \d+\.\d+ s){{4}} {value:.3f} s", said)


def test_each_step_says_what_it_took(result: RunResult, page: str) -> None:
    for each in result.workloads:
        if each.step != "enqueue" and each.tasks:
            row = rf">{each.step.value}</th>.*?>{each.tasks}</td>.*?>{each.moved}</td>"
            assert re.search(row, page)


def test_the_report_is_in_its_wording(result: RunResult, page: str) -> None:
    said = words(page)
    for report in result.reports:
        for line in report_lines(report):
            share = "" if line.share is None else f" {100 * line.share:.1f} %"
            assert f"{line.label} {line.count:,}{share}" in said
        assert " ".join(balance_line(report).split()) in said


def test_reasons_that_did_not_occur_are_left_out(page: str) -> None:
    reasons = words(figures_of(page)[-1])
    assert "Unsubscribed" in reasons
    assert "Email address missing" in reasons
    assert "Coupon" not in reasons


def test_it_says_how_to_repeat_it(page: str) -> None:
    said = words(page)
    assert (
        "sendtrace simulate 'two seasons.toml' --seed 42 --attach --batch-size 80 Settings" in said
    )
    assert 'name = "two-seasons"' in said
    for name, value in (("synchronous", "full"), ("cores", "2"), ("sendtrace", "9.8.7")):
        assert f"{name} {value}" in said


def test_own_workers_are_counted(sampled: RunResult) -> None:
    assert "--seed 42 --workers 3 --batch-size 80" in words(render_result_page(sampled))


def test_what_comes_from_outside_is_escaped(
    result: RunResult, database: Database, tmp_path: Path
) -> None:
    bad = "</pre><script>alert('1')</script>\"&amp;"
    hostile = play(database, scenario(text=bad, path=Path(f"x/{bad}.toml")), tmp_path)
    machine = {bad: bad}
    page = render_result_page(
        replace(
            hostile,
            withheld={bad: WithheldMessages(predicted=1, actual=2)},
            conditions=replace(hostile.conditions, machine=machine, database=bad),
        )
    )
    assert "<script" not in page
    assert f"2 of {bad}, over its message limit" in words(page)
    [code] = re.findall(r"<pre><code>(.*?)</code></pre>", page, re.S)
    assert unescape(code) == bad


def test_a_run_of_nothing_has_a_page(database: Database, tmp_path: Path) -> None:
    run = record_run(database, scenario(), tmp_path, lambda _: None)
    said = words(render_result_page(judged(database, run)))
    assert said.count("Nothing to draw: ") == len(CHARTS)
    assert "Nothing to draw: no message arrived." in said
    assert "Audience 0 Sent 0 Delivered 0" in said


def test_values_that_are_not_known_are_no_problem(result: RunResult) -> None:
    unknown = {name: np.full(1, np.nan) for name in result.curves.columns} | {SECOND: np.zeros(1)}
    nothing = replace(
        result,
        curves=Timeseries(1, unknown),
        figures=dict.fromkeys(result.figures),
        workloads=(),
    )
    said = words(render_result_page(nothing))
    assert said.count("Nothing to draw: ") == len(CHARTS) - 1
    assert "throughput - to the gateway" in said
