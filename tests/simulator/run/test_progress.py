"""What is said while a run goes on: harmless, whatever files and customers are called."""

import io

import pytest
from rich.console import Console

from simulator.run import progress
from simulator.run.progress import open_display

NAME = "[red]\x1b[31m[/none]\u202e.csv: 3 rows"
SHOWN = r"[red]\x1b[31m[/none]\u202e.csv: 3 rows"


def test_names_are_harmless_as_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with open_display(10) as shown:
        shown.log(NAME)
    assert capsys.readouterr().err == f"{SHOWN}\n"


def test_names_are_harmless_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda **_: Console(file=out, force_terminal=True, width=200)
    )
    with open_display(10) as shown:
        shown.log(NAME)
    assert SHOWN in out.getvalue()
    assert "\u202e" not in out.getvalue()
