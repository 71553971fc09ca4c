"""A run is refused if it asks for what it can't have."""

from dataclasses import replace
from pathlib import Path

import pytest

from simulator.run.options import reject_missing_rules
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
