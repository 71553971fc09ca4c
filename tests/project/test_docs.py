"""The documentation agrees with the code."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from docs.generate import FOLDER, GENERATED_PAGES
from simulator.figures import list_figure_units
from simulator.results.invariants import INVARIANTS
from simulator.results.observations import RunConditions
from simulator.results.result import RESULT_VERSION
from simulator.scenario.faults import FaultKind
from simulator.scenario.file import load_scenario
from tests.support.paths import README, ROOT, SCENARIOS
from tracker.audit.invariants import REPORT_BALANCES

PAGES = [README, *sorted(FOLDER.glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
VARIABLE = re.compile(r"\bSENDTRACE_[A-Z_]*[A-Z]\b")


def read(page: str) -> str:
    return (FOLDER / page).read_text(encoding="utf-8")


def code_blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", read(page), re.DOTALL)


@pytest.mark.parametrize("name", GENERATED_PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert read(name) == GENERATED_PAGES[name](), "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slugify, headings), f"{page.name}: {link}"


def slugify(heading: str) -> str:
    """Return the anchor that Markdown renderers give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / link.partition("#")[0]).resolve()
        for page in PAGES
        for link in LINK.findall(page.read_text(encoding="utf-8"))
    }
    assert {page for page in PAGES if page != README and page.resolve() not in linked} == set()


def test_architecture_answers_five_questions_with_paths_that_exist() -> None:
    text = read("architecture.md")
    questions = re.findall(r"^\*\*(.*?\?)\*\*(.*?)(?=^\*\*|^## )", text, re.MULTILINE | re.DOTALL)
    assert len(questions) == 5
    for question, answer in questions:
        paths = re.findall(r"\]\(\.\./([\w/.]+)\)", answer)
        assert paths, question
        assert all((ROOT / path).exists() for path in paths), question


def test_architecture_names_every_package() -> None:
    text = read("architecture.md")
    packages = {
        path.parent.relative_to(ROOT).as_posix()
        for top in ("tracker", "workers", "simulator")
        for path in (ROOT / top).glob("*/__init__.py")
    }
    assert {package for package in packages if f"`{package}`" not in text} == set()


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def test_scenario_of_the_tutorial_loads(tmp_path: Path) -> None:
    [scenario, *_] = code_blocks("tutorial.md", "toml")
    file = tmp_path / "first.toml"
    file.write_text(scenario, encoding="utf-8")
    load_scenario(file)


def test_page_on_faults_has_every_kind(tmp_path: Path) -> None:
    [faults] = code_blocks("faults.md", "toml")
    file = tmp_path / "faults.toml"
    campaign = '[[campaigns]]\nname = "spring"\nchannel = "email"\naudience = 10\n'
    file.write_text(f'name = "faults"\n{faults}\n{campaign}', encoding="utf-8")
    assert {fault.kind for fault in load_scenario(file).faults} == set(FaultKind)


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_scenarios_load(path: Path) -> None:
    load_scenario(path)


def test_results_are_documented_key_by_key() -> None:
    text = read("results.md")
    assert f"describes version {RESULT_VERSION}." in text
    documented = set(re.findall(r"`([^`]+)`", text))
    keys = {field.name for field in fields(RunConditions)} - {"log"}
    assert keys | {"verdict", "thresholds", "figures", "definition", "state"} <= documented


def test_every_invariant_is_among_the_guarantees() -> None:
    text = (FOLDER / "guarantees.md").read_text()
    names = {invariant.name for invariant in (*INVARIANTS, REPORT_BALANCES)}
    assert {name for name in names if f"`{name}`" not in text} == set()


def test_every_figure_is_documented() -> None:
    documented = re.findall(r"`([^`]+)`", read("figures.md"))
    placeholder = re.compile(r"\b(PERCENTILE|CATEGORY|CAUSE|REASON|REPAIR|PROBLEM|STEP|QUEUE)\b")
    patterns = [placeholder.sub("[a-z0-9_.]+", re.escape(name)) for name in documented]
    for figure in list_figure_units([]):
        name = figure.removesuffix(".share")
        assert any(re.fullmatch(pattern, name) for pattern in patterns), figure


def test_environment_variables_are_documented() -> None:
    """Both ways: those that the code reads, and none that it doesn't."""
    names = VARIABLE.findall(read("environment.md"))
    documented = {name.removesuffix("_FILE") for name in names}
    sources = [
        path for top in ("tracker", "workers", "simulator") for path in (ROOT / top).rglob("*.py")
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert set(VARIABLE.findall(text)) - {"SENDTRACE_SMTP"} <= documented
    settings = set(re.findall(r"\b[a-z]+(?:_[a-z]+)*\b", text))
    prefix = re.compile(r"SENDTRACE_(SMTP_|HTTP_)?")
    keys = {prefix.sub("", name, count=1).lower() for name in documented}
    used_elsewhere = {"stage", "from", "test_postgresql_url", "test_schedules"}
    used_elsewhere |= {"flower_max_tasks"}
    assert keys - settings - used_elsewhere == set()


def test_makefile_explains_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [phony] = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert set(phony.split()) == set(re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE))


def test_lock_pins_by_name_and_version_only() -> None:
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line), line
