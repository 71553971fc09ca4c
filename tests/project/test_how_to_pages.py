"""The examples of docs/rules.md, docs/gateways.md and docs/messages.md work."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docs.generate import FOLDER
from simulator.scenario.file import load_scenario
from tests.support.pages import read_blocks
from tests.support.plugins import plugin_installer
from workers.candidates import Candidate
from workers.checks.base import all_checks
from workers.message.environment import FILTERS
from workers.plugins import PluginGroup
from workers.rules.changes import CHANGEABLE_SETTINGS
from workers.rules.cli import diff_rules
from workers.rules.pytest_plugin import Judge


def read_entry_points(page: str, group: PluginGroup) -> dict[str, str]:
    [project] = [block for block in read_blocks(page, "toml") if "[project]" in block]
    entries: dict[str, str] = tomllib.loads(project)["project"]["entry-points"][group]
    return entries


def test_the_rule_is_installed_and_passes_its_test(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    candidate: Callable[..., Candidate],
    judge: Judge,
) -> None:
    rule, its_test = read_blocks("rules.md", "python")
    entries = read_entry_points("rules.md", PluginGroup.CHECKS)
    assert entries == {"left_alone": "acme_rules:left_alone"}
    (tmp_path / "acme_rules.py").write_text(rule, encoding="utf-8")
    with plugin_installer(tmp_path, monkeypatch) as install:
        install("", PluginGroup.CHECKS, **entries)
        assert "left_alone" in [check.name for check in all_checks()]
        names: dict[str, Any] = {}
        exec(compile(its_test, "rules.md", "exec"), names)  # noqa: S102  # our own page
        [test] = [name for name in names if name.startswith("test_")]
        names[test](candidate, judge)


def test_the_gateway_sections_load(tmp_path: Path) -> None:
    sections = [block for block in read_blocks("gateways.md", "toml") if "[gateways" in block]
    assert len(sections) == 4
    people = tmp_path / "people.csv"
    people.write_text("customer_id,email\nann,ann@shop.internal\n")
    campaign = '[[campaigns]]\nname = "spring"\nchannel = "email"\naudience = "people.csv"\n'
    for section in sections:
        file = tmp_path / "example.toml"
        file.write_text(f'name = "example"\n{campaign}\n{section}', encoding="utf-8")
        load_scenario(file)


def test_the_scenario_with_messages_loads(tmp_path: Path) -> None:
    [scenario] = read_blocks("messages.md", "toml")
    file = tmp_path / "example.toml"
    file.write_text(f'name = "example"\n{scenario}', encoding="utf-8")
    (tmp_path / "customers.csv").write_text("customer_id,email\nann,ann@shop.internal\n")
    (tmp_path / "diwali.html").write_text("<p>{{ profile }}</p>")
    email, sms = load_scenario(file).campaigns
    assert set(email.requires) == {"coupon", "field:city", "profile"}
    assert set(sms.requires) == {"coupon"}


def test_the_filters_of_templates_are_documented() -> None:
    page = (FOLDER / "messages.md").read_text(encoding="utf-8")
    sentence = page.partition("These filters are available:")[2].partition("\n\n")[0]
    aliases = {"count", "d", "e"}  # of length, default and escape
    assert set(re.findall(r"`(\w+)`", sentence)) == FILTERS - aliases


def test_the_keys_of_set_are_documented() -> None:
    page = (FOLDER / "rules.md").read_text(encoding="utf-8")
    for text in (page, diff_rules.__doc__ or ""):
        assert all(key in text for key in CHANGEABLE_SETTINGS)
