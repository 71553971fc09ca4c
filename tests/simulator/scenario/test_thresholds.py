"""Thresholds: what a scenario can demand, and which mistakes are reported."""

from pathlib import Path

import pytest

from simulator.figures import RESERVED_NAMES, Unit, list_figure_units
from simulator.scenario.file import InvalidScenario, Scenario, load_scenario
from simulator.scenario.thresholds import Threshold

SCENARIO = """
name = "test"
[[campaigns]]
name = "diwali-email"
channel = "email"
audience = 5
[thresholds]
{thresholds}
"""


def load(folder: Path, thresholds: str) -> Scenario:
    """Return a scenario with these thresholds, written as in the file."""
    file = folder / "test.toml"
    file.write_text(SCENARIO.format(thresholds=thresholds))
    return load_scenario(file)


def load_one(folder: Path, threshold: str) -> Threshold:
    [loaded] = load(folder, threshold).thresholds
    return loaded


@pytest.mark.parametrize(
    ("line", "relation", "limit", "unit"),
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
def test_limits_have_the_unit_of_the_figure(
    tmp_path: Path, line: str, relation: str, limit: float, unit: Unit
) -> None:
    threshold = load_one(tmp_path, line)
    assert (threshold.relation, threshold.limit, threshold.unit) == (relation, limit, unit)
    assert not threshold.should_abort


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"queued_to_gatway.p95" = "< 2s"', "did you mean queued_to_gateway.p95"),
        ('"diwali.delivered" = "> 1"', "unknown figure"),
        ('"delivered" = "90"', "got '90'; expected one of <= >= == < > and a limit"),
        ('"delivered" = "=> 90"', "got '=> 90'; expected one of"),
        ('"delivered" = "< 2s"', "got limit '2s'; expected a number"),
        ('"queued_to_gateway.p95" = "< 2"', "expected a duration like"),
        ('"delivered.share" = ">= 90"', 'expected a share like "0.9"'),
        ('"workers.memory" = "< 300"', 'expected a size like "300MB"'),
        ('"delivered" = "> 1_0_x"', "got limit '1_0_x'"),
        ('"delivered" = 90', 'got 90; expected a string like ">= 1"'),
        ('"delivered" = "<> 5"', "got '<> 5'"),
        ('"delivered" = "> 1e400"', "got limit '1e400'"),
        ('"queued_to_gateway".p95 = "< 2s"', 'in quotes, like "queued_to_gateway.p95"'),
        ('"abort" = "yes"', "got 'yes'; expected true or false"),
        ('"throughput" = { is = "> 1", abort = true }', "is unknown before the end"),
        ('"delivered" = { is = "> 1", abrt = true }', "unknown key; did you mean abort"),
        ('"delivered" = { abort = true }', "is: missing"),
        ('"driver_lag.p95" = { is = "< 1s", abort = true }', "is unknown before the end"),
        ('"steps.submit.service.p95" = "< 1"', "expected a duration"),
    ],
)
def test_errors_name_the_file_and_the_figure(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InvalidScenario) as caught:
        load(tmp_path, line)
    error = str(caught.value)
    assert error.startswith(f"{tmp_path / 'test.toml'}: thresholds.")
    assert message in error
    assert line.split('"')[1] in error


def test_abort_is_set_for_one_threshold_or_for_all(tmp_path: Path) -> None:
    def aborts(lines: str) -> list[bool]:
        return [threshold.should_abort for threshold in load(tmp_path, lines).thresholds]

    assert aborts('"sent" = { is = "> 1", abort = true }\n"delivered" = "> 1"') == [True, False]
    lines = 'abort = true\n"sent" = "> 1"\n"delivered" = { is = "> 1", abort = false }'
    assert aborts(lines) == [True, False]
    lines = 'abort = true\n"throughput" = "> 1"\n"sent" = "> 1"'
    assert aborts(lines) == [False, True], "the throughput is unknown before the end"


def test_a_campaign_can_not_have_the_name_of_a_figure(tmp_path: Path) -> None:
    assert {"sent", "gateway", "throughput", "steps"} <= RESERVED_NAMES
    file = tmp_path / "test.toml"
    file.write_text(SCENARIO.format(thresholds="").replace("diwali-email", "sent"))
    with pytest.raises(InvalidScenario, match="campaigns: got the name of a figure, 'sent'"):
        load_scenario(file)


def test_figures_of_campaigns_begin_with_their_names() -> None:
    units = list_figure_units(["one", "two"])
    assert units["one.queued_to_gateway.p95"] is Unit.SECONDS
    assert units["two.not_sent.system_error.share"] is Unit.SHARE
    assert "one.seconds" not in units
