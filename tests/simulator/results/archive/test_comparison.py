"""Comparisons of runs: which figures changed, and which changes are noise."""

import json
import re
from dataclasses import replace

import pytest

from simulator.figures import list_figure_units
from simulator.pages.comparison_page import render_comparison_page
from simulator.pages.comparison_text import format_run_comparison
from simulator.results.archive.comparison import (
    ChangeVerdict,
    FigureChange,
    RunComparison,
    compare_runs,
)
from tests.support.results import make_stored_result


def find_change(comparison: RunComparison, figure: str) -> FigureChange:
    [match] = [change for change in comparison.changes if change.figure == figure]
    return match


@pytest.mark.parametrize(
    ("figure", "after", "verdict"),
    [
        ("throughput", 851.0, ChangeVerdict.SAME),
        ("throughput", 840.0, ChangeVerdict.WORSE),
        ("throughput", 1_200.0, ChangeVerdict.BETTER),
        ("queued_to_gateway.p95", 2.59, ChangeVerdict.SAME),
        ("queued_to_gateway.p95", 2.61, ChangeVerdict.WORSE),
        ("queued_to_gateway.p95", 1.3, ChangeVerdict.BETTER),
        ("gateway_to_outcome.p99", 0.69, ChangeVerdict.SAME),
        ("gateway_to_outcome.p99", 0.71, ChangeVerdict.WORSE),
        ("queued_to_final.max", 99.0, ChangeVerdict.CONTEXT),
        ("queued_to_final.p99.9", 99.0, ChangeVerdict.CONTEXT),
        ("driver_lag.p95", 99.0, ChangeVerdict.CONTEXT),
        ("seconds", 99.0, ChangeVerdict.CONTEXT),
        ("delivered", 89.0, ChangeVerdict.WORSE),
        ("delivered.share", 0.1, ChangeVerdict.BETTER),
        ("bounced", 1.0, ChangeVerdict.CHANGED),
        ("not_sent.system_error.timeout", 1.0, ChangeVerdict.WORSE),
        ("queued_to_final.p95", None, ChangeVerdict.WORSE),
        ("throughput", None, ChangeVerdict.WORSE),
    ],
)
def test_single_runs_have_the_default_noise(
    figure: str, after: float | None, verdict: ChangeVerdict
) -> None:
    comparison = compare_runs([make_stored_result()], [make_stored_result(2, {figure: after})])
    assert find_change(comparison, figure).verdict is verdict
    others = {change.verdict for change in comparison.changes if change.figure != figure}
    assert others <= {ChangeVerdict.SAME, ChangeVerdict.CONTEXT}
    assert [change.figure for change in comparison.regressions] == [figure] * (
        verdict is ChangeVerdict.WORSE
    )


def test_repeated_runs_show_their_noise() -> None:
    before = [make_stored_result(run, {"queued_to_final.p95": 10.0 + run}) for run in (1, 2, 5)]
    figure = "queued_to_final.p95"
    change = find_change(compare_runs(before, [make_stored_result(9, {figure: 15.9})]), figure)
    assert (change.before, change.after, change.band) == (12.0, 15.9, 4.0)
    assert change.verdict is ChangeVerdict.SAME
    assert (
        find_change(compare_runs(before, [make_stored_result(9, {figure: 16.1})]), figure).verdict
        is ChangeVerdict.WORSE
    )
    steady = [make_stored_result(run) for run in (1, 2, 3)]
    change = find_change(compare_runs(steady, [make_stored_result(9, {figure: 10.7})]), figure)
    assert change.band == 0.75, "at least a quarter of the default noise"
    assert change.verdict is ChangeVerdict.SAME


def test_two_runs_of_a_series_are_compared_without_the_others() -> None:
    one, two = make_stored_result(1), make_stored_result(2, {"throughput": 100.0})
    comparison = compare_runs([one, two], [two, one])
    assert (comparison.before, comparison.after) == ([one], [two])
    assert [change.figure for change in comparison.regressions] == ["throughput"]


def test_partial_and_failed_runs_are_named_and_not_judged() -> None:
    parts = ("passed", "balanced", "invariants_hold", "as_predicted", "thresholds_met")
    verdict = dict.fromkeys(parts, True) | {"passed": False, "as_predicted": False}
    partial = compare_runs(
        [make_stored_result(1, state="aborted")],
        [make_stored_result(2, {"throughput": 1.0}, verdict=verdict)],
    )
    assert partial.regressions == []
    text = format_run_comparison(partial)
    assert "· partial: aborted" in text
    assert text.endswith("! not judged: run 1 is partial (aborted)")
    assert "· failed: it differs from its prediction, or an invariant is broken" in text


def test_figures_of_a_single_campaign_are_those_of_the_run() -> None:
    worse = {"queued_to_final.p95": 20.0, "spring.queued_to_final.p95": 20.0}
    comparison = compare_runs([make_stored_result()], [make_stored_result(2, worse)])
    assert [change.figure for change in comparison.regressions] == ["queued_to_final.p95"]
    two = [{"campaign": "spring"}, {"campaign": "summer"}]
    figures = dict.fromkeys(list_figure_units(["spring", "summer"]), 1.0)
    before = make_stored_result(1, figures, campaigns=two)
    after = make_stored_result(2, {**figures, "summer.queued_to_final.p95": 9.0}, campaigns=two)
    assert [change.figure for change in compare_runs([before], [after]).regressions] == [
        "summer.queued_to_final.p95"
    ]


@pytest.mark.parametrize("sides", [(1, 100), (100, 100), (100, 1)])
def test_latencies_of_a_fast_clock_are_not_compared(sides: tuple[int, int]) -> None:
    cause = {"latencies": "the clock ran at 100 times real time"}
    before, after = (
        make_stored_result(
            run,
            {"gateway_to_outcome.p99": 4.0 * run, "throughput": 1_000.0 / run},
            speed=speed,
            not_comparable={} if speed == 1 else cause,
        )
        for run, speed in zip((1, 2), sides, strict=True)
    )
    comparison = compare_runs([before], [after])
    latency = find_change(comparison, "gateway_to_outcome.p99")
    assert (latency.verdict, latency.band) == (ChangeVerdict.NOT_COMPARABLE, None)
    assert [change.figure for change in comparison.regressions] == ["throughput"]
    text = format_run_comparison(comparison)
    assert "latencies not comparable: the clock ran at 100 times real time" in text
    [line] = [line for line in text.splitlines() if line.startswith("gateway_to_outcome.p99")]
    assert line.endswith("not comparable")
    fine = compare_runs([before], [replace(before, name="run 3")])
    if sides[0] != 1:
        assert format_run_comparison(fine).endswith("✔ no regression; not compared: latencies")
    assert "latencies" in comparison.as_json()["not_comparable"]


def test_runs_that_began_with_different_suppression_lists_are_told_apart() -> None:
    kept = {"Acme": {"entries": 2, "digest": "ab" * 32}}
    before, after = make_stored_result(1, suppressions=kept), make_stored_result(2)
    text = format_run_comparison(compare_runs([before], [after]))
    assert "differs  suppression list: Acme: 2 entries, digest abababababab → -" in text
    same = compare_runs([before], [make_stored_result(2, suppressions=kept)])
    assert same.differences == ()
    changed = {"Acme": {"entries": 2, "digest": "cd" * 32}}
    other = compare_runs([before], [make_stored_result(2, suppressions=changed)])
    assert [difference.what for difference in other.differences] == ["suppression list"]


def test_counts_of_different_seeds_are_not_compared() -> None:
    figures = {"delivered": 89.0, "bounced": 9.0, "throughput": 1.0}
    comparison = compare_runs([make_stored_result()], [make_stored_result(2, figures, seed=2)])
    assert [change.figure for change in comparison.regressions] == ["throughput"]
    assert find_change(comparison, "bounced").verdict is ChangeVerdict.NOT_COMPARABLE
    for text in (format_run_comparison(comparison), render_comparison_page(comparison)):
        assert "counts not comparable: the seeds differ (1 and 2)" in text


def test_different_scenarios_are_not_judged() -> None:
    figures = {"delivered": 89.0, "throughput": 1.0, "queued_to_final.p95": 99.0}
    after = make_stored_result(2, figures, scenario="sale")
    comparison = compare_runs([make_stored_result()], [after])
    assert comparison.regressions == []
    verdicts = {change.verdict for change in comparison.changes}
    assert verdicts == {ChangeVerdict.NOT_COMPARABLE, ChangeVerdict.CONTEXT}
    cause = "the scenarios differ (test and sale)"
    assert comparison.unjudged_reason == cause
    assert format_run_comparison(comparison).endswith(f"! not judged: {cause}")
    assert "✘ worse" not in render_comparison_page(comparison)


@pytest.mark.parametrize(
    ("throughput", "repetitions", "is_uncertain"),
    [(925.1, 1, False), (924.9, 1, True), (701.0, 1, True), (699.0, 1, False), (924.9, 5, False)],
)
def test_a_change_about_as_large_as_the_noise_asks_for_repetitions(
    throughput: float, repetitions: int, is_uncertain: bool
) -> None:
    sides = [
        [make_stored_result(first + number, {"throughput": value}) for number in range(repetitions)]
        for first, value in ((1, 1_000.0), (11, throughput))
    ]
    comparison = compare_runs(*sides)
    assert comparison.as_json()["uncertain"] == ["throughput"] * is_uncertain
    advice = "Repeat more: throughput changed by about as much as the noise; simulate --repeat 5"
    for text in (format_run_comparison(comparison), render_comparison_page(comparison)):
        assert (advice in text) is is_uncertain


def test_different_conditions_of_runs_are_listed() -> None:
    after = make_stored_result(
        2, seed=2, workers=4, state="interrupted", definition="a = 1\nb = 3\n"
    )
    comparison = compare_runs([make_stored_result()], [after])
    differences = {(row.what, row.before, row.after) for row in comparison.differences}
    assert differences == {
        ("seed", "1", "2"),
        ("state", "finished", "interrupted"),
        ("workers", "-", "4"),
        ("scenario file", "b = 2", ""),
        ("scenario file", "", "b = 3"),
    }
    assert comparison.as_json()["runs"][1] == {
        "run": 2,
        "scenario": "test",
        "seed": 2,
        "state": "interrupted",
        "started_at": "2026-11-25T01:02:03Z",
    }
    text = format_run_comparison(comparison)
    assert "differs  seed: 1 → 2" in text
    assert "partial: interrupted" in text
    assert re.search(r"^after +run 2 · .* · seed 2 · interrupted · 20\d\d-", text, re.MULTILINE)


def test_a_comparison_as_text_and_as_json() -> None:
    comparison = compare_runs(
        [make_stored_result()],
        [make_stored_result(2, {"queued_to_final.p95": 20.0, "bounced": 8.0})],
    )
    text = format_run_comparison(comparison)
    [line] = [line for line in text.splitlines() if line.startswith("queued_to_final.p95")]
    assert line.split() == [
        *("queued_to_final.p95", "10.000", "s", "20.000", "s", "+10.000", "s", "(+100", "%)"),
        *("±", "3.000", "s", "✘", "worse"),
    ]
    assert text.splitlines()[-1] == "✘ 1 regression: queued_to_final.p95"
    assert "≠ changed" in text
    assert "simulate --repeat N measures it" in text
    contents = json.loads(json.dumps(comparison.as_json()))
    assert contents["regressions"] == ["queued_to_final.p95"]
    assert (contents["before"], contents["after"]) == ([1], [2])
    [one] = [change for change in contents["changes"] if change["figure"] == "bounced"]
    assert (one["difference"], one["noise_band"], one["verdict"]) == (8.0, 0.0, "changed")
    assert format_run_comparison(
        compare_runs([make_stored_result()], [make_stored_result(2)])
    ).endswith("✔ no regression")
