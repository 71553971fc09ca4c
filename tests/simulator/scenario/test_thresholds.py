"""Thresholds: what can be said, what is told of slips, and what meets them."""

from pathlib import Path

import pytest

from simulator.figures import RESERVED_NAMES, Unit, list_figure_units
from simulator.scenario.file import InvalidScenario, Scenario, load_scenario
from simulator.scenario.thresholds import Threshold, evaluate_thresholds

SCENARIO = """
name = "test"
[[campaigns]]
name = "diwali-email"
channel = "email"
audience = 5
[thresholds]
{thresholds}
"""


def scenario(folder: Path, thresholds: str) -> Scenario:
    file = folder / "test.toml"
    file.write_text(SCENARIO.format(thresholds=thresholds))
    return load_scenario(file)


def one(folder: Path, thresholds: str) -> Threshold:
    [threshold] = scenario(folder, thresholds).thresholds
    return threshold


@pytest.mark.parametrize(
    ("told", "relation", "limit", "unit"),
    [
        ('"throughput" = ">= 10000"', ">=", 10_000, Unit.RATE),
        ('"throughput" = ">= 10_000/s"', ">=", 10_000, Unit.RATE),
        ('"queued_to_gateway.p95" = "< 2s"', "<", 2, Unit.SECONDS),
        ('"queued_to_final.p99.9" = "<= 800ms"', "<=", 0.8, Unit.SECONDS),
        ('"diwali-email.delivered.share" = ">= 0.9"', ">=", 0.9, Unit.SHARE),
        ('"delivered.share" = ">=90%"', ">=", 0.9, Unit.SHARE),
        ('"not_sent.system_error" = "== 0"', "==", 0, Unit.MESSAGES),
        ('"gateway.repeats" = "<= 10"', "<=", 10, Unit.TIMES),
        ('"workers.memory" = "< 1.5 GB"', "<", 1.5e9, Unit.BYTES),
        ('"workers.cpu" = "< 2"', "<", 2, Unit.CORES),
        ('"driver_lag.max" = "  <   1m "', "<", 60, Unit.SECONDS),
    ],
)
def test_what_can_be_demanded(
    tmp_path: Path, told: str, relation: str, limit: float, unit: Unit
) -> None:
    threshold = one(tmp_path, told)
    assert (threshold.relation, threshold.limit, threshold.unit) == (relation, limit, unit)
    assert not threshold.abort


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ('"queued_to_gatway.p95" = "< 2s"', "did you mean queued_to_gateway.p95"),
        ('"diwali.delivered" = "> 1"', "there is no such figure"),
        ('"delivered" = "90"', "is no threshold; expected one of <= >= == < > and a limit"),
        ('"delivered" = "=> 90"', "is no threshold"),
        ('"delivered" = "< 2s"', "'2s' is no limit for messages; expected a number"),
        ('"queued_to_gateway.p95" = "< 2"', "expected a duration like"),
        ('"delivered.share" = ">= 90"', 'expected a share like "0.9"'),
        ('"workers.memory" = "< 300"', 'expected a size like "300MB"'),
        ('"delivered" = "> 1_0_x"', "is no limit for messages"),
        ('"delivered" = 90', '90 is no threshold; expected a text like ">= 1"'),
        ('"delivered" = "<> 5"', "is no threshold"),
        ('"delivered" = "> 1e400"', "is no limit"),
        ('"queued_to_gateway".p95 = "< 2s"', 'in quotes, like "queued_to_gateway.p95"'),
        ('"abort" = "yes"', "'yes' is neither true nor false"),
        ('"throughput" = { is = "> 1", abort = true }', "is not known before the end"),
        ('"delivered" = { is = "> 1", abrt = true }', "unknown key; did you mean abort"),
        ('"delivered" = { abort = true }', "is: is missing"),
        ('"driver_lag.p95" = { is = "< 1s", abort = true }', "is not known before the end"),
        ('"steps.submit.service.p95" = "< 1"', "expected a duration"),
    ],
)
def test_slips_are_told_with_file_and_figure(tmp_path: Path, told: str, said: str) -> None:
    with pytest.raises(InvalidScenario) as caught:
        scenario(tmp_path, told)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'test.toml'}: thresholds")
    assert said in message
    assert told.split('"')[1] in message


def test_abort_can_be_for_one_or_for_all(tmp_path: Path) -> None:
    told = '"sent" = { is = "> 1", abort = true }\n"delivered" = "> 1"'
    assert [each.abort for each in scenario(tmp_path, told).thresholds] == [True, False]
    told = 'abort = true\n"sent" = "> 1"\n"delivered" = { is = "> 1", abort = false }'
    assert [each.abort for each in scenario(tmp_path, told).thresholds] == [True, False]
    told = 'abort = true\n"throughput" = "> 1"\n"sent" = "> 1"'
    known = [each.abort for each in scenario(tmp_path, told).thresholds]
    assert known == [False, True], "of the throughput nothing is known before the end"


def test_what_is_judged(tmp_path: Path) -> None:
    thresholds = scenario(
        tmp_path, '"delivered" = ">= 4"\n"bounced" = "== 0"\n"queued_to_final.max" = "< 1s"'
    ).thresholds
    judged = evaluate_thresholds(
        thresholds, {"delivered": 4, "bounced": 1, "queued_to_final.max": None}
    )
    assert [each.passed for each in judged] == [True, False, False], "no value is not well"
    assert judged[1].as_json() == {
        "figure": "bounced",
        "threshold": "== 0",
        "value": 1,
        "unit": "messages",
        "passed": False,
    }


def test_what_the_run_was_aborted_for_is_not_met(tmp_path: Path) -> None:
    thresholds = scenario(tmp_path, '"seconds" = "< 10s"\n"sent" = "> 1"').thresholds
    judged = evaluate_thresholds(thresholds, {"seconds": 9.0, "sent": 5}, thresholds[0])
    assert [each.passed for each in judged] == [False, True]


def test_a_campaign_can_not_be_called_like_a_figure(tmp_path: Path) -> None:
    assert {"sent", "gateway", "throughput", "steps"} <= RESERVED_NAMES
    file = tmp_path / "test.toml"
    file.write_text(SCENARIO.format(thresholds="").replace("diwali-email", "sent"))
    with pytest.raises(InvalidScenario, match="campaigns: 'sent' is the name of a figure"):
        load_scenario(file)


def test_figures_of_campaigns_bear_their_names() -> None:
    known = list_figure_units(["one", "two"])
    assert known["one.queued_to_gateway.p95"] is Unit.SECONDS
    assert known["two.not_sent.system_error.share"] is Unit.SHARE
    assert "one.seconds" not in known
