"""Runs that are refused before they begin."""

from dataclasses import replace
from pathlib import Path

import pytest

from simulator.run.options import reject_missing_rules, reject_unjudgeable_thresholds
from simulator.scenario.file import load_scenario
from tests.support.recorded_runs import OPTIONS
from tracker.errors import UsageError

CAMPAIGN = """
[[campaigns]]
name = "spring"
channel = "sms"
audience = 30
"""


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("[rules.no_such]\nhour = 8", "rules.no_such"),
        ('[expect]\n"no_such.blocked" = "== 1"', 'expect."no_such.blocked"'),
    ],
)
def test_only_attached_workers_may_have_rules_that_are_not_installed_here(
    tmp_path: Path, table: str, key: str
) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(f'name = "ruled"\nseed = 5\n{table}\n{CAMPAIGN}')
    scenario = load_scenario(file)
    reject_missing_rules(scenario, replace(OPTIONS, is_attached=True))
    with pytest.raises(UsageError) as caught:
        reject_missing_rules(scenario, OPTIONS)
    refusal = f"{file}: {key}: no installed package has a rule named 'no_such'"
    assert str(caught.value).startswith(refusal)


FAST, JUMPING = "[clock]\nspeed = 60", '[[faults]]\nat = "1s"\nclock = "+1h"'


@pytest.mark.parametrize(
    ("distortion", "threshold", "cause"),
    [
        (FAST, '"queued_to_gateway.p95" = "< 1s"', "the clock runs at 60 times real time"),
        (FAST, '"spring.queued_to_final.max" = "< 1s"', "the clock runs at 60 times real time"),
        (JUMPING, '"gateway_to_outcome.p50" = "< 1s"', "a fault advances the run's clock"),
        (JUMPING, '"throughput" = "> 1"', "a fault advances the run's clock"),
        (JUMPING, '"seconds" = "< 60s"', "a fault advances the run's clock"),
        (JUMPING, '"steps.submit.service.max" = "< 1s"', "a fault advances the run's clock"),
        (FAST, '"throughput" = "> 1"', None),
        (JUMPING, '"steps.submit.tasks" = "> 0"', None),
        (JUMPING, '"delivered" = "> 0"', None),
        ("", '"queued_to_gateway.p95" = "< 1s"', None),
    ],
)
def test_a_threshold_on_a_figure_that_the_clock_distorts_is_refused(
    tmp_path: Path, distortion: str, threshold: str, cause: str | None
) -> None:
    file = tmp_path / "scenario.toml"
    tables = f"{distortion}\n[thresholds]\n{threshold}\n{CAMPAIGN}"
    file.write_text(f'name = "distorted"\nseed = 5\n{tables}')
    scenario = load_scenario(file)
    if cause is None:
        reject_unjudgeable_thresholds(scenario, OPTIONS)
        return
    with pytest.raises(UsageError) as caught:
        reject_unjudgeable_thresholds(scenario, OPTIONS)
    key = f"thresholds.{threshold.split()[0]}"
    assert str(caught.value).startswith(f"{file}: {key}: can't be judged, as {cause}")
