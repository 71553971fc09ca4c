"""docs/drills.md keeps its structure, whatever a stack said."""

import pytest

from drills.page import escape_markdown, format_page
from drills.results import AlertHistory, DrillResult, DrillsFile
from tests.support.drills import HOSTILE, make_drill


def make_page(*drills: DrillResult) -> str:
    return format_page(
        DrillsFile(
            version=1,
            made_at="2026-12-01T12:00:00+00:00",
            seconds=90.0,
            sendtrace="0.1.0",
            machine={"cores": "2"},
            drills=list(drills),
        )
    )


def test_texts_of_a_stack_are_only_text() -> None:
    page = make_page(make_drill(findings=[HOSTILE]), make_drill(skipped=HOSTILE, observation=None))
    lines = page.splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "# Drills",
        "## Broker hung",
        "## Broker hung",
    ]
    rows = [line for line in lines if line.startswith("|")]
    assert len(rows) == 4, "the header, its rule, and a row for each drill"
    for row in rows:
        assert row.replace(r"\|", "").count("|") == 7, row
    [opened, closed] = [line for line in lines if line.startswith("```")]
    assert (opened, closed) == ("``````text", "``````"), "longer than any run of backticks"
    outside = page.partition(opened)[0] + page.rpartition(closed)[2]
    assert "<script" not in outside.replace(r"\<", "")
    assert "](https" not in outside
    assert "\u202e" not in page


@pytest.mark.parametrize("text", ["a|b", "*a*", "<b>", "[a](b)", "`a`", "a_b", r"a\b", "http://a"])
def test_no_character_has_a_meaning(text: str) -> None:
    escaped = escape_markdown(text)
    assert escaped != text
    assert escaped.replace("\\", "") == text.replace("\\", "")


def test_the_page_says_what_was_not_played_or_not_evaluated() -> None:
    page = make_page(
        make_drill(skipped="can't mount a small disk", observation=None),
        make_drill(alerts=None, healthy_after=None, noticed_after=None),
    )
    skipped, other = [line for line in page.splitlines() if line.startswith("| broker hung")]
    assert "not played: can't mount a small disk" in skipped
    assert "no Prometheus is installed" in other
    assert "| **no** |" in other
    assert "not noticed" in other


def test_the_page_says_how_far_an_alert_came() -> None:
    def describe(pending: float | None, firing: float | None, ended: float | None) -> str:
        history = AlertHistory(
            name="SendtraceDiskLow", pending_after=pending, firing_after=firing, ended_after=ended
        )
        page = make_page(make_drill(alerts=[history]))
        [row] = [line for line in page.splitlines() if line.startswith("| broker hung")]
        return row.split(" | ")[3]

    assert describe(2, None, None) == "DiskLow pending after 2 s, still raised at the end"
    assert describe(2, 64, 80) == "DiskLow fires after 64 s, ended after 80 s"
