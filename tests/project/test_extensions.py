"""The example package of docs/extensions.md works: its gateway, its services and its handler."""

import json
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generate import FOLDER
from simulator.results.result import RunResult
from simulator.scenario.file import load_scenario
from tests.support.inline_runs import assert_passed, run_scenario
from tests.support.pages import read_blocks
from tests.support.plugins import plugin_installer
from tracker.errors import UsageError
from tracker.status import Channel
from tracker.store.database import Database
from workers.gateways.base import load_gateway_kind
from workers.plugins import PluginGroup

EXAMPLES = FOLDER / "examples" / "extensions"
MODULES = ("example_gateway", "example_services", "example_handler")

COUPONS = {
    "ann": {"coupon_id": "C-1", "expires": "2099-01-31"},
    "bob": {"coupon_id": "C-2", "redeemed": True},
    "eve": {"coupon_id": "C-3"},
}
CUSTOMERS = """\
customer_id,email,coupon_id,coupon_expires,coupon_redeemed
ann,ann@shop.internal,C-1,2099-01-31,no
bob,bob@shop.internal,C-2,,yes
eve,eve@shop.internal,C-3,,no
dan,dan@shop.internal,,,no
"""


@pytest.fixture(autouse=True)
def installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_retry_delay: None
) -> Iterator[None]:
    """Install the example package, with its settings, and the page's scenario."""
    site = tmp_path / "site"
    site.mkdir()
    for module in MODULES:
        shutil.copy(EXAMPLES / f"{module}.py", site)
    project = tomllib.loads((EXAMPLES / "pyproject.toml").read_text(encoding="utf-8"))
    assert sorted(project["tool"]["setuptools"]["py-modules"]) == sorted(MODULES)
    for name in ("OUTBOX", "COUPONS", "CATALOGUES"):
        monkeypatch.setenv(f"EXAMPLE_{name}", str(tmp_path / name.lower()))
    (tmp_path / "catalogues").mkdir()
    (tmp_path / "catalogues" / "spring-email.pdf").touch()
    (tmp_path / "coupons").write_text(json.dumps(COUPONS), encoding="utf-8")
    (tmp_path / "customers.csv").write_text(CUSTOMERS, encoding="utf-8")
    [scenario] = [block for block in read_blocks("extensions.md", "toml") if "[gate" in block]
    (tmp_path / "scenario.toml").write_text(scenario, encoding="utf-8")
    with plugin_installer(site, monkeypatch) as install:
        for group, entries in project["project"]["entry-points"].items():
            install("", PluginGroup(group), **entries)
        yield
    for module in MODULES:
        sys.modules.pop(module, None)


def run_page(database: Database, folder: Path) -> RunResult:
    """Run the page's scenario in this process."""
    return run_scenario(database, load_scenario(folder / "scenario.toml"), folder)


def read_outbox(folder: Path) -> list[str]:
    lines = (folder / "outbox").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["to"] for line in lines]


def test_the_page_shows_the_package() -> None:
    for module, shown in zip(MODULES, read_blocks("extensions.md", "python"), strict=True):
        assert shown == (EXAMPLES / f"{module}.py").read_text(encoding="utf-8")
    project, _ = read_blocks("extensions.md", "toml")
    assert project.removeprefix("# pyproject.toml\n") == (EXAMPLES / "pyproject.toml").read_text()


def test_its_parts_take_part_in_a_run(database: Database, tmp_path: Path) -> None:
    kind = load_gateway_kind("outbox")
    assert (kind.reaches_people, kind.channels) == (False, frozenset({Channel.EMAIL}))
    assert_passed(run_page(database, tmp_path))
    assert read_outbox(tmp_path) == ["ann@shop.internal", "eve@shop.internal"]


def test_an_answer_that_differs_from_the_audience_file_is_found(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "coupons").write_text(json.dumps(COUPONS | {"eve": {}}), encoding="utf-8")
    result = run_page(database, tmp_path)
    [check] = result.prediction_checks
    [difference] = check.differences
    assert difference.number == 2
    assert not result.has_passed


def test_messages_without_a_catalogue_are_not_ready(database: Database, tmp_path: Path) -> None:
    (tmp_path / "catalogues" / "spring-email.pdf").unlink()
    result = run_page(database, tmp_path)
    [report] = result.reports
    assert report.sent == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('services = "shop"', 'services = "shopp"'), "did you mean shop?"),
        (
            ('audience = "customers.csv"', "audience = 5\ndefects = { coupon_issue = 0.1 }"),
            "the defect coupon_issue is a failure of simulated services",
        ),
        (("[gateways.email]", "[services.coupon]\nerror_rate = 0.1\n[gateways.email]"), "uses it"),
    ],
)
def test_failures_are_planted_in_simulated_services_only(
    tmp_path: Path, change: tuple[str, str], message: str
) -> None:
    file = tmp_path / "scenario.toml"
    text = file.read_text(encoding="utf-8")
    assert change[0] in text
    file.write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_scenario(file)
