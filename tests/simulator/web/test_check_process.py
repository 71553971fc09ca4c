"""The live page and rules that end or block the process in which they run."""

from pathlib import Path

import pytest

from simulator.web.serve import open_monitoring
from tests.support.factory import Plan, make_batch
from tests.support.plugins import plugin_installer
from tests.support.web import live_page_client
from tracker.settings import Settings
from tracker.store.database import Database

RULES = """\
import os
import time

from workers.checks.base import check

class Answer:
    "A value of a class that the live page doesn't import."

def load(campaign, customers):
    return {2: Answer()}

@check("custom_rule", step="suppress", order=1, source=load)
def fatal(candidate, now, data):
    "End the process on number 0, and never return on number 1."
    if candidate.number == 0:
        os._exit(0)
    while candidate.number == 1:
        time.sleep(60)
    return candidate.number == 2
"""


def test_a_rule_cannot_end_or_block_the_live_page(
    database: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(database, Plan(size=3))
    path = f"/campaigns/{batch.campaign.id}/messages"
    with plugin_installer(tmp_path, monkeypatch) as install:
        install(RULES, fatal="extra:fatal")
        with (
            open_monitoring(database, settings) as monitoring,
            live_page_client(
                database, settings, {"explain_checks": monitoring.explain_checks}
            ) as client,
        ):
            ended = client.get(f"{path}/0")
            blocked = client.get(f"{path}/1")
            [verdict, *_] = client.get(f"/api{path}/2/checks").json()
    assert ended.status_code == 200
    assert "the process that evaluates them ended while check fatal ran" in ended.text
    assert "error: RuleTimeout: not done within 2 s" in blocked.text
    assert (verdict["check"], verdict["reason"]) == ("fatal", "Custom rule")
    assert "extra.Answer" in verdict["looked_at"]["data"]
