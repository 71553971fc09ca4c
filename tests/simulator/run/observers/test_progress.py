"""Progress: control characters in the names of files and customers are escaped."""

import io

import pytest

from simulator import progress_lines
from simulator.run.observers.base import RunProgress, RunSnapshot
from simulator.run.observers.progress import open_display
from tests.support.factory import make_report
from tracker.record.journal import QUEUED_STATE

NAME = "[red]\x1b[31m[/none]\u202e.csv: 3 rows"
ESCAPED_NAME = r"[red]\x1b[31m[/none]\u202e.csv: 3 rows"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_names_are_escaped_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with open_display(10) as display:
        display.log(NAME)
    assert capsys.readouterr().err == f"{ESCAPED_NAME}\n"


def test_names_are_escaped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setenv("TERM", "xterm")
    with open_display(10) as display:
        display.log(NAME)
    assert ESCAPED_NAME in out.getvalue()
    assert "\u202e" not in out.getvalue()


def test_deferred_messages_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_lines, "INTERVAL_SECONDS", 0.0)
    reports = [make_report({QUEUED_STATE: 3}, deferred=2), make_report({}, deferred=0)]
    snapshot = RunSnapshot(reports=reports, progress=RunProgress.from_reports(reports), planned=3)
    with open_display() as display:
        display.ticked(snapshot)
    assert "settled 0 of 3 · 2 deferred" in capsys.readouterr().err
