"""Thresholds are met, missed or not judged."""

from simulator.results.thresholds import evaluate_thresholds
from simulator.scenario.thresholds import Threshold, ThresholdSection, parse_thresholds


def parse(**expressions: str) -> tuple[Threshold, ...]:
    sections = {
        figure: ThresholdSection.model_validate({"is": expression})
        for figure, expression in expressions.items()
    }
    return parse_thresholds(sections, [], lambda _: True)


def test_a_missing_value_does_not_meet_a_threshold() -> None:
    thresholds = parse(delivered=">= 4", bounced="== 0", throughput="> 1")
    results = evaluate_thresholds(thresholds, {"delivered": 4, "bounced": 1, "throughput": None})
    assert [result.is_met for result in results] == [True, False, False]
    assert results[1].as_json() == {
        "figure": "bounced",
        "threshold": "== 0",
        "value": 1,
        "unit": "messages",
        "passed": False,
        "not_judged": None,
    }


def test_the_threshold_that_aborted_the_run_is_missed_whatever_its_figure() -> None:
    thresholds = parse(seconds="< 10s", sent="> 1")
    figures = {"seconds": 9.0, "sent": 5}
    results = evaluate_thresholds(thresholds, figures, thresholds[0], dict.fromkeys(figures, "cut"))
    assert [result.is_met for result in results] == [False, None]
    assert [result.unjudged_reason for result in results] == [None, "cut"]
