"""What changed from one run to the next, and what of it is noise."""

import json

import pytest

from simulator.figures import list_figure_units
from simulator.pages.comparison_text import format_run_comparison
from simulator.results.run_comparison import (
    ChangeVerdict,
    FigureChange,
    RunComparison,
    compare_runs,
)
from tests.support.results import make_stored_result


def change(found: RunComparison, figure: str) -> FigureChange:
    [of_it] = [each for each in found.changes if each.figure == figure]
    return of_it


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
def test_single_runs_have_the_usual_noise(
    figure: str, after: float | None, verdict: ChangeVerdict
) -> None:
    found = compare_runs([make_stored_result()], [make_stored_result(2, {figure: after})])
    assert change(found, figure).verdict is verdict
    others = {each.verdict for each in found.changes if each.figure != figure}
    assert others <= {ChangeVerdict.SAME, ChangeVerdict.CONTEXT}
    assert [each.figure for each in found.regressions] == [figure] * (
        verdict is ChangeVerdict.WORSE
    )


def test_repeated_runs_show_their_noise() -> None:
    before = [make_stored_result(each, {"queued_to_final.p95": 10.0 + each}) for each in (1, 2, 5)]
    figure = "queued_to_final.p95"
    found = change(compare_runs(before, [make_stored_result(9, {figure: 15.9})]), figure)
    assert (found.before, found.after, found.band) == (12.0, 15.9, 4.0)
    assert found.verdict is ChangeVerdict.SAME
    assert (
        change(compare_runs(before, [make_stored_result(9, {figure: 16.1})]), figure).verdict
        is ChangeVerdict.WORSE
    )
    steady = [make_stored_result(each) for each in (1, 2, 3)]
    found = change(compare_runs(steady, [make_stored_result(9, {figure: 10.7})]), figure)
    assert found.band == 0.75, "a quarter of the usual noise at least"
    assert found.verdict is ChangeVerdict.SAME


def test_runs_that_repeat_each_other_are_held_against_each_other_alone() -> None:
    one, two = make_stored_result(1), make_stored_result(2, {"throughput": 100.0})
    found = compare_runs([one, two], [two, one])
    assert (found.before, found.after) == ([one], [two])
    assert [each.figure for each in found.regressions] == ["throughput"]


def test_what_speaks_against_comparing_is_told() -> None:
    verdict = {"passed": False, "balanced": True, "invariants_hold": True, "as_predicted": False}
    partial = compare_runs(
        [make_stored_result(1, state="aborted")],
        [make_stored_result(2, {"throughput": 1.0}, verdict=verdict)],
    )
    assert partial.regressions == []
    text = format_run_comparison(partial)
    assert "· partial: aborted" in text
    assert text.endswith("! not judged: run 1 is partial (aborted)")
    assert "· failed: it differs from its prediction, or an invariant is broken" in text


def test_a_single_campaign_is_the_run() -> None:
    worse = {"queued_to_final.p95": 20.0, "spring.queued_to_final.p95": 20.0}
    found = compare_runs([make_stored_result()], [make_stored_result(2, worse)])
    assert [each.figure for each in found.regressions] == ["queued_to_final.p95"]
    two = [{"campaign": "spring"}, {"campaign": "summer"}]
    figures = dict.fromkeys(list_figure_units(["spring", "summer"]), 1.0)
    before = make_stored_result(1, figures, campaigns=two)
    after = make_stored_result(2, {**figures, "summer.queued_to_final.p95": 9.0}, campaigns=two)
    assert [each.figure for each in compare_runs([before], [after]).regressions] == [
        "summer.queued_to_final.p95"
    ]


def test_the_noise_of_a_fast_clock_is_in_its_own_time() -> None:
    after = make_stored_result(2, {"gateway_to_outcome.p99": 40.0}, speed=100)
    found = compare_runs([make_stored_result(1, speed=100)], [after])
    assert change(found, "gateway_to_outcome.p99").verdict is ChangeVerdict.SAME


def test_what_the_runs_were_not_made_alike_in_is_told() -> None:
    after = make_stored_result(
        2, seed=2, workers=4, state="interrupted", definition="a = 1\nb = 3\n"
    )
    found = compare_runs([make_stored_result()], [after])
    told = {(each.what, each.before, each.after) for each in found.differences}
    assert told == {
        ("seed", "1", "2"),
        ("state", "complete", "interrupted"),
        ("workers", "-", "4"),
        ("scenario file", "b = 2", ""),
        ("scenario file", "", "b = 3"),
    }
    text = format_run_comparison(found)
    assert "differs  seed: 1 → 2" in text
    assert "partial: interrupted" in text


def test_as_text_and_as_json() -> None:
    found = compare_runs(
        [make_stored_result()],
        [make_stored_result(2, {"queued_to_final.p95": 20.0, "bounced": 8.0})],
    )
    text = format_run_comparison(found)
    [line] = [each for each in text.splitlines() if each.startswith("queued_to_final.p95")]
    assert line.split() == [
        *("queued_to_final.p95", "10.000", "s", "20.000", "s", "+10.000", "s", "(+100", "%)"),
        *("±", "3.000", "s", "✘", "worse"),
    ]
    assert text.splitlines()[-1] == "✘ 1 regression: queued_to_final.p95"
    assert "≠ changed" in text
    assert "simulate --repeat N measures it" in text
    said = json.loads(json.dumps(found.as_json()))
    assert said["regressions"] == ["queued_to_final.p95"]
    assert (said["before"], said["after"]) == ([1], [2])
    [one] = [each for each in said["changes"] if each["figure"] == "bounced"]
    assert (one["difference"], one["noise_band"], one["verdict"]) == (8.0, 0.0, "changed")
    assert format_run_comparison(
        compare_runs([make_stored_result()], [make_stored_result(2)])
    ).endswith("✔ no regression")
