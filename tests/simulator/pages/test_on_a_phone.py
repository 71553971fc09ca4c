"""The pages of the simulator on a phone: nothing is cut off, however long its names are."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from docs.browser import Browser
from simulator.pages.comparison_page import render_comparison_page
from simulator.pages.result_page import render_result_page
from simulator.results.archive.comparison import compare_runs
from simulator.schema import open_database
from tests.support.browser import find_cut_off, needs_browser
from tests.support.inline_runs import build_campaign, build_scenario, run_scenario
from tests.support.plugins import plugin_installer
from tests.support.results import make_stored_result
from tracker.settings import load_settings

pytestmark = [needs_browser, pytest.mark.usefixtures("no_retry_delay")]

LONG_NAME = "autumn-and-winter-sale-of-all-stores-in-the-north-east"

RULE = """\
from workers.checks.base import check

@check("custom_rule", step="suppress", order=35)
def hold_out_of_the_loyalty_program_in_autumn(candidate, now):
    "Block every tenth customer."
    return candidate.number % 10 == 0
"""

RULE_NAME = "hold_out_of_the_loyalty_program_in_autumn"


def open_page(browser: Browser, folder: Path, text: str) -> Browser:
    file = folder / "page.html"
    file.write_text(text, encoding="utf-8")
    browser.open(file.as_uri())
    return browser


def test_thresholds_and_expectations_are_not_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "expected.csv").write_text("customer_id,expected\nc1,custom_rule\n")
    thresholds = {
        f"{LONG_NAME}.not_sent.incomplete_or_invalid.mobile_missing_or_invalid.share": "< 0.0001 %",
        f"{LONG_NAME}.about_to_be_sent_to_gateway.p99.9": "< 1ms",
        "workers.memory": "< 1GB",
    }
    with plugin_installer(site, monkeypatch) as install:
        install(RULE, **{RULE_NAME: f"extra:{RULE_NAME}"})
        scenario = build_scenario(
            build_campaign(LONG_NAME, audience=50, expect="expected.csv"),
            path=tmp_path / "test.toml",
            thresholds=thresholds,
            expect={f"{LONG_NAME}.{RULE_NAME}.blocked": "1_000_000..2_000_000"},
        )
        settings = load_settings(home=tmp_path, database_url=f"sqlite:///{tmp_path / 'page.db'}")
        with closing(open_database(settings)) as database:
            result = run_scenario(database, scenario, tmp_path)
    text = render_result_page(replace(result, run=replace(result.run, folder=tmp_path)))
    page = open_page(browser, tmp_path, text)
    content = page.evaluate("document.body.innerText")
    assert all(name in content for name in (*thresholds, f"{LONG_NAME}.{RULE_NAME}.blocked"))
    assert find_cut_off(page, 360) == []


def test_a_comparison_is_not_cut_off(tmp_path: Path, browser: Browser) -> None:
    figure = "queued_to_final.p95"
    before, after = (
        make_stored_result(run, {figure: 20.0 * run}, scenario=LONG_NAME, definition=definition)
        for run, definition in ((1, "a = 1"), (2, f"a = {LONG_NAME}{LONG_NAME}"))
    )
    text = render_comparison_page(compare_runs([before], [after]))
    assert f"1 regression: {figure}" in text
    assert find_cut_off(open_page(browser, tmp_path, text), 360) == []
