"""The text of a result: the commands that it suggests, and the checks that it names."""

from dataclasses import replace
from pathlib import Path

import pytest

from simulator.figures import THROUGHPUT
from simulator.pages.result_page import render_result_page
from simulator.pages.result_text import format_result
from simulator.results.observations import DriverObservations
from simulator.results.prediction_check import MessageDifference
from simulator.results.result import RunResult, judge_run
from simulator.results.withheld import WithheldMessages
from simulator.scenario.gateways import GatewaySection
from tests.support.inline_runs import build_campaign, build_scenario, run_scenario
from tracker.record.check_times import CheckTime
from tracker.store.database import Database


@pytest.fixture
def result(database: Database, tmp_path: Path) -> RunResult:
    return run_scenario(database, build_scenario(build_campaign("spring")), tmp_path)


def differing(result: RunResult) -> RunResult:
    [comparison] = result.prediction_checks
    differences = (MessageDifference(3, "delivered", "not_sent: timeout"),)
    return replace(
        result, prediction_checks=(replace(comparison, matching=4, differences=differences),)
    )


def test_a_failed_result_suggests_commands(result: RunResult, tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    conditions = replace(result.conditions, log=log)
    failed = format_result(replace(differing(result), conditions=conditions)).splitlines()[-1]
    run = f"--run {result.run.id}"
    assert failed == (
        "✘ failed          1 message differs from the prediction;"
        f" see sendtrace trace spring 3 {run}; the worker's log, {log}"
    )
    [first, *others] = result.invariant_results
    broken = replace(
        differing(result), invariant_results=(replace(first, violation_count=1), *others)
    )
    conclusion = format_result(broken).splitlines()[-1]
    assert f"invariants don't hold; see sendtrace verify {run}; sendtrace trace" in conclusion


def test_what_the_order_of_campaigns_decides_is_named(result: RunResult) -> None:
    [comparison] = result.prediction_checks
    unsure = replace(
        result,
        prediction_checks=(replace(comparison, uncertain=2),),
        withheld={"Acme": WithheldMessages(predicted=None, actual=5)},
    )
    lines = format_result(unsure).splitlines()
    open_end = "2 depended on the order of concurrent campaigns"
    assert f"✔ matches prediction: 5 of 5 messages; {open_end}" in lines
    assert lines[-1].endswith(f"every other message matches its prediction; {open_end}")
    causes = "over the message limit or out of credit"
    assert f"of Acme's messages, {causes}; expected unknown" in format_result(unsure)


def test_the_outcomes_at_a_real_gateway_are_not_claimed_to_be_predicted(result: RunResult) -> None:
    [run_campaign] = result.run.campaigns
    plan = replace(run_campaign.plan, gateway=GatewaySection.model_validate({"kind": "smtp"}))
    run = replace(result.run, campaigns=(replace(run_campaign, plan=plan),))
    conclusion = format_result(replace(result, run=run)).splitlines()[-1]
    assert conclusion.endswith("outcomes at gateway smtp aren't predicted")


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.083, "0.083/s"), (12_345.6, "12,346/s")]
)
def test_a_throughput_that_is_unknown_or_small_is_not_shown_as_zero(
    result: RunResult, value: float | None, text: str
) -> None:
    shown = format_result(replace(result, figures={**result.figures, THROUGHPUT: value}))
    assert f"Throughput     {text} to the gateway" in shown


def test_a_slow_check_is_named_in_a_resumed_run_as_well(result: RunResult) -> None:
    observed = replace(result.observations, drivers=[DriverObservations()] * 2)
    resumed = replace(result, observations=observed, check_times={"slow": CheckTime(100, 2.0)})
    text = format_result(resumed)
    assert "! throughput, latencies, seconds, steps, " in text
    assert "not comparable: the run was resumed" in text
    assert "! Check slow took 2.0 s of the workers' time, 20.0 ms a message" in text


def test_a_report_that_did_not_balance_during_the_run_fails_it(
    database: Database, tmp_path: Path
) -> None:
    result = run_scenario(database, build_scenario(build_campaign(audience=20)), tmp_path)
    assert result.is_proven
    observed = replace(
        result.observations,
        drivers=[
            DriverObservations(
                snapshot_count=7,
                unbalanced_count=1,
                unbalanced_reports=(result.reports[0].as_json(),),
            )
        ],
    )
    again = judge_run(database, result.run, observed, result.conditions)
    [broken] = [finding for finding in again.invariant_results if not finding.is_satisfied]
    assert broken.invariant.name == "snapshots_balance"
    assert not again.is_proven
    assert again.as_json()["verdict"]["invariants_hold"] is False


def test_percentiles_that_coincide_because_of_batches_are_marked(
    database: Database, tmp_path: Path
) -> None:
    """The simulated gateway accepts a submission at one instant; its outcomes have one each."""
    gateways = {"email": {"latency": {"median": "1ms", "p99": "2ms"}}}
    scenario = build_scenario(build_campaign(audience=40), gateways=gateways)
    result = run_scenario(database, scenario, tmp_path)
    assert result.figures["queued_to_gateway.p50"] == result.figures["queued_to_gateway.max"]
    lines = format_result(result).splitlines()
    marked = {line.split("  ")[0] for line in lines if line.endswith("resolution: one batch")}
    assert marked >= {"queued → gateway", "about to be sent → gateway"}
    assert not marked & {"gateway → outcome", "queued → final"}
    assert result.as_json()["resolution"]["queued_to_gateway"] == "one batch"
    assert "gateway_to_outcome" not in result.as_json()["resolution"]


def test_percentiles_of_a_single_message_are_not_marked(database: Database, tmp_path: Path) -> None:
    result = run_scenario(database, build_scenario(build_campaign(audience=1)), tmp_path)
    assert result.batch_spans == ()


def test_the_text_says_what_limited_the_run(result: RunResult) -> None:
    text = format_result(result)
    assert f"Limit          {result.limit.sentence}\n" in text
    assert f"               {result.limit.change}\n" in text
    limit = result.as_json()["limited_by"]
    assert (limit["cause"], limit["sentence"]) == ("unknown", result.limit.sentence)


def test_latencies_of_a_fast_clock_are_not_comparable(database: Database, tmp_path: Path) -> None:
    scenario = build_scenario(build_campaign(), clock={"speed": 60.0})
    result = run_scenario(database, scenario, tmp_path)
    text = format_result(result)
    assert "in simulated time" in text
    assert "! latencies not comparable: the clock runs at 60 times real time" in text
    assert "latencies not comparable: the clock runs at 60 times" in render_result_page(result)
    [(group, cause)] = result.as_json()["not_comparable"].items()
    assert (group, "60 times real time" in cause) == ("latencies", True)


def test_no_time_of_a_run_whose_clock_jumped_is_comparable(
    database: Database, tmp_path: Path
) -> None:
    faults = [{"at": "1s", "clock": "+1h"}]
    result = run_scenario(database, build_scenario(build_campaign(), faults=faults), tmp_path)
    text = format_result(result)
    cause = "a fault advances the run's clock"
    assert f"! throughput, latencies, seconds, steps not comparable: {cause}" in text
    assert "The driver lagged" not in text
    assert result.as_json()["not_comparable"]["throughput"] == cause
