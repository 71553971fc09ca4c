"""Progress: control characters in the names of files and customers are escaped."""

import io

import pytest
from rich.console import Console

from simulator.run import progress
from simulator.run.progress import open_display

NAME = "[red]\x1b[31m[/none]\u202e.csv: 3 rows"
ESCAPED_NAME = r"[red]\x1b[31m[/none]\u202e.csv: 3 rows"


def test_names_are_escaped_in_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with open_display(10) as display:
        display.log(NAME)
    assert capsys.readouterr().err == f"{ESCAPED_NAME}\n"


def test_names_are_escaped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=out, force_terminal=True, width=200)
    )
    with open_display(10) as display:
        display.log(NAME)
    assert ESCAPED_NAME in out.getvalue()
    assert "\u202e" not in out.getvalue()
