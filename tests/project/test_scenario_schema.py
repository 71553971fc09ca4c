"""The JSON Schema of scenario files agrees with what sendtrace accepts."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from docs.reference_scenario import EXAMPLE
from docs.scenario_schema import SCHEMA_HEADER
from simulator.scenario.file import InvalidScenario, load_scenario
from tests.support.paths import ROOT, SCENARIOS

SCHEMA = ROOT / "docs" / "scenario.schema.json"

CAMPAIGN = '[[campaigns]]\nname = "spring"\nchannel = "email"\naudience = 10\n'

WRONG = {
    "unknown key": f'name = "x"\nsead = 1\n{CAMPAIGN}',
    "missing campaigns": 'name = "x"',
    "share above 1": f'name = "x"\ngateways.email.hard_bounce = 1.5\n{CAMPAIGN}',
    "duration without a unit": f'name = "x"\ngateways.email.retry_after = "5"\n{CAMPAIGN}',
    "two shapes": f'name = "x"\n{CAMPAIGN}load.shape = {{ constant = 1, steps = [] }}',
    "unknown defect": f'name = "x"\n{CAMPAIGN}defects.email_mising = 0.1',
    "two kinds of fault": f'name = "x"\n{CAMPAIGN}\n[[faults]]\nat = "1s"\n'
    'kill = "worker"\nflush = "broker"',
}


def find_invalid(files: Sequence[Path]) -> set[Path]:
    """Return the files that don't conform to the schema."""
    command = [sys.executable, "-m", "check_jsonschema", "--output-format", "json"]
    checked = subprocess.run(
        [*command, "--schemafile", str(SCHEMA), *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(checked.stdout)
    assert report.get("parse_errors", []) == []
    return {Path(error["filename"]) for error in report.get("errors", ())}


def test_shipped_scenarios_and_the_example_conform(tmp_path: Path) -> None:
    example = tmp_path / "example.toml"
    example.write_text(EXAMPLE, encoding="utf-8")
    assert load_scenario(example).name == "spring-sale"
    shipped = sorted(SCENARIOS.glob("*.toml"))
    assert find_invalid([example, *shipped]) == set()
    for file in (example, *shipped):
        assert file.read_text(encoding="utf-8").startswith(f"{SCHEMA_HEADER}\n")


def test_typical_mistakes_do_not_conform(tmp_path: Path) -> None:
    files = {tmp_path / f"{name}.toml": text for name, text in WRONG.items()}
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidScenario):
            load_scenario(file)
    assert find_invalid(list(files)) == set(files)
