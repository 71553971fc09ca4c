"""The docs say what the code does."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from docs.generate import LIFECYCLE, lifecycle
from simulator.figures import list_figure_units
from simulator.results.result import RESULT_VERSION, RunConditions
from simulator.scenario.faults import FaultKind
from simulator.scenario.file import load_scenario
from workers.candidates import Candidate
from workers.plugins import PluginGroup
from workers.rules.changes import CHANGEABLE_SETTINGS
from workers.rules.cli import diff_rules
from workers.rules.pytest_plugin import Judge

README = Path("README.md")


def test_drawing_of_the_lifecycle_is_that_of_the_code() -> None:
    assert LIFECYCLE.read_text(encoding="utf-8") == lifecycle(), "run make docs"


def test_first_scenario_of_the_readme_loads(tmp_path: Path) -> None:
    scenario, *_ = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "first.toml"
    file.write_text(scenario, encoding="utf-8")
    load_scenario(file)


def test_rule_of_the_readme_is_a_check_and_passes_its_test(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    candidate: Callable[..., Candidate],
    judge: Judge,
) -> None:
    text = README.read_text(encoding="utf-8")
    rule, its_test = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "acme_rules.py").write_text(rule, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(its_test, "README.md", "exec"), names)  # noqa: S102  # it is ours
    names["test_who_asked_to_be_left_alone_is"](candidate, judge)


def test_package_of_the_readme_has_the_entry() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    [project] = [block for block in blocks if "[project]" in block]
    read = tomllib.loads(project)
    assert read["project"].keys() >= {"name", "version"}
    assert read["project"]["entry-points"][PluginGroup.CHECKS] == {
        "left_alone": "acme_rules:left_alone"
    }


def test_faults_of_the_readme_can_be_played(tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    [faults] = [block for block in blocks if block.startswith("faults")]
    file = tmp_path / "faults.toml"
    campaign = '[[campaigns]]\nname = "spring"\nchannel = "email"\naudience = 10\n'
    file.write_text(f'name = "faults"\n{faults}\n{campaign}', encoding="utf-8")
    told = {fault.kind for fault in load_scenario(file).faults}
    assert told == set(FaultKind)


def test_keys_that_can_be_set_are_all_told() -> None:
    for text in (README.read_text(encoding="utf-8"), diff_rules.__doc__ or ""):
        assert all(key in text for key in CHANGEABLE_SETTINGS)


@pytest.mark.parametrize("path", sorted(Path("scenarios").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_scenarios_ask_a_question_and_load(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
    load_scenario(path)


def test_results_are_documented_key_by_key() -> None:
    text = Path("docs/results.md").read_text(encoding="utf-8")
    assert f"describes version {RESULT_VERSION}." in text
    told = re.findall(r"`([^`]+)`", text)
    keys = {field.name for field in fields(RunConditions)} - {"log"}
    assert keys | {"verdict", "thresholds", "figures", "definition", "state"} <= set(told)
    patterns = [_PLACEHOLDER.sub("[a-z0-9_.]+", re.escape(each)) for each in told]
    for figure in list_figure_units([]):
        name = figure.removesuffix(".share")
        assert any(re.fullmatch(pattern, name) for pattern in patterns), figure


_PLACEHOLDER = re.compile(r"\b(PERCENTILE|CATEGORY|REASON|STEP|QUEUE)\b")


def test_makefile_explains_every_target() -> None:
    makefile = Path("Makefile").read_text(encoding="utf-8")
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(phony.split()) == explained


def test_lock_pins_by_name_and_version_only() -> None:
    for line in Path("requirements.lock").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line), line
