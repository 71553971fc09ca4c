"""The columns of the coverage table."""

from dataclasses import replace
from pathlib import Path

from simulator.oracle.coverage import scenarios_by_column
from simulator.scenario.file import load_scenario
from tests.support.paths import SCENARIOS


def test_scenarios_of_one_name_are_distinguished_by_their_files(tmp_path: Path) -> None:
    demo = load_scenario(SCENARIOS / "demo.toml")
    named_like_a_column = replace(demo, name="reason")
    one, two, three = (tmp_path / name for name in ("one.toml", "two.toml", "three.toml"))
    columns = scenarios_by_column({one: demo, two: demo, three: named_like_a_column})
    assert list(columns) == [f"{demo.name} ({one})", f"{demo.name} ({two})", f"reason ({three})"]
    assert list(scenarios_by_column({one: demo})) == [demo.name]
