"""Short forms of the Makefile's targets that the documents name; CI itself runs lint and test."""

import re
from pathlib import Path

import pytest

from docs.generate import FOLDER, GENERATED_PAGES
from tests.support.make import run_make
from tests.support.paths import README, ROOT

RUN_BY_CI = {"lint", "test"}

SHORT_FORMS = {
    "help": (),
    "demo": (),  # see test_readme_shows_what_make_demo_prints
    "docs": (),
    "faults": ("QUICK=1", "ARGS=--only nothing --messages 500 --json {folder}/faults.json"),
    "schedules": ("SCHEDULES=5",),
    "drills": (),  # see test_drills.py
    "bench": (),  # see test_benchmarks.py
    "bench-compare": (),  # see test_benchmarks.py
    "bench-peers": (),  # see test_peers.py
}


TIME = re.compile(r"\d+ [A-Z][a-z]{2} \d{4} \d\d:\d\d(:\d\d)? UTC")
"""The times of a report and of its rollup, which differ from run to run."""


def test_readme_shows_what_make_demo_prints(tmp_path: Path) -> None:
    ended = run_make("demo", settings={"SENDTRACE_HOME": str(tmp_path / "home")})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [sample] = re.findall(r"```\n(Live Monitoring Report.*?)```", README.read_text(), re.DOTALL)
    assert TIME.sub("TIME", sample) in TIME.sub("TIME", ended.stdout)
    for line in ("Opened", "Clicked", "Marked as spam", "Marked unsubscribed"):
        assert re.search(rf"^    {line} +[1-9]", sample, re.MULTILINE), line


TESTED_ELSEWHERE = {"bench", "bench-compare", "bench-peers", "demo", "drills"}


@pytest.mark.parametrize("target", sorted(SHORT_FORMS.keys() - TESTED_ELSEWHERE))
def test_target_runs(target: str, tmp_path: Path) -> None:
    before = {name: (FOLDER / name).read_text() for name in GENERATED_PAGES}
    arguments = [argument.format(folder=tmp_path) for argument in SHORT_FORMS[target]]
    ended = run_make(target, *arguments, settings={"SENDTRACE_HOME": str(tmp_path / "home")})
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert before == {name: (FOLDER / name).read_text() for name in GENERATED_PAGES}


def test_every_target_that_a_document_names_is_run() -> None:
    pages = [README, ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    targets = {
        target
        for page in pages
        for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text(encoding="utf-8"))
    }
    assert {"demo", "test", "faults", "bench"} <= targets
    assert targets - RUN_BY_CI - SHORT_FORMS.keys() == set()
