"""The command `simulate` refuses rules that its own workers lack."""

from pathlib import Path

import pytest

from simulator.cli.simulate import check_rules
from simulator.scenario.file import load_scenario
from tracker.errors import UsageError

CAMPAIGN = """
[[campaigns]]
name = "spring"
channel = "sms"
audience = 30
"""


@pytest.mark.parametrize(
    "table", ["[rules.no_such]\nhour = 8", '[expect]\n"no_such.blocked" = "== 1"']
)
def test_only_attached_workers_may_have_rules_that_are_not_installed_here(
    tmp_path: Path, table: str
) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(f'name = "ruled"\nseed = 5\n{table}\n{CAMPAIGN}')
    scenario = load_scenario(file)
    check_rules(scenario, is_attached=True)
    with pytest.raises(UsageError, match="no_such"):
        check_rules(scenario, is_attached=False)
