"""The docs say what the code does."""

import re
from pathlib import Path

import pytest

from docs.generate import LIFECYCLE, lifecycle
from simulator.scenario import load_scenario

README = Path("README.md")


def test_drawing_of_the_lifecycle_is_that_of_the_code() -> None:
    assert LIFECYCLE.read_text(encoding="utf-8") == lifecycle(), "run make docs"


def test_first_scenario_of_the_readme_loads(tmp_path: Path) -> None:
    scenario, *_ = re.findall(r"```toml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "first.toml"
    file.write_text(scenario, encoding="utf-8")
    assert not load_scenario(file).without_effect


@pytest.mark.parametrize("path", sorted(Path("scenarios").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_scenarios_ask_a_question_and_load(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# ")
    load_scenario(path)


def test_makefile_explains_every_target() -> None:
    makefile = Path("Makefile").read_text(encoding="utf-8")
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    explained = set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))
    assert set(phony.split()) == explained


def test_lock_pins_by_name_and_version_only() -> None:
    for line in Path("requirements.lock").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line), line
