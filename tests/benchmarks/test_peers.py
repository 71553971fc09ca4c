"""The comparison with other task queues: the target of the Makefile, in a small size."""

import json
from pathlib import Path

import pytest

from benchmarks.meter import Cost
from benchmarks.peers.result import TABLE_BEGIN, TABLE_END, Comparison, format_comparison
from benchmarks.peers.runs import Form, Run
from benchmarks.peers.systems import PEERS
from tests.support.make import run_make

MESSAGES = 20


def test_each_peer_stores_every_transition(tmp_path: Path) -> None:
    page, file = tmp_path / "peers.md", tmp_path / "peers.json"
    page.write_text(f"# Peers\n{TABLE_BEGIN}\nold\n{TABLE_END}\nend\n")
    options = f"--batch-sizes 10 --messages {MESSAGES} --json {file} --page {page}"
    ended = run_make(
        "bench-peers", "QUICK=1", f"ARGS={options} --only {' '.join(PEERS)}", settings={}
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    forms = json.loads(file.read_text())["forms"]
    assert [form["system"] for form in forms] == [*PEERS]
    for form in forms:
        [run] = form["runs"]
        assert run["complete"] == MESSAGES
        assert run["cost"]["cpu"].keys() >= {"worker", "database"}
    text = page.read_text()
    assert "old" not in text
    assert all(f"| {peer} | 10 | {MESSAGES} |" in text for peer in PEERS)
    assert text.endswith(f"{TABLE_END}\nend\n")


@pytest.mark.parametrize(("complete", "figures"), [(100, "50"), (99, "–")])
def test_a_run_that_lost_messages_has_no_figures(complete: int, figures: str) -> None:
    cost = Cost(2.0, {"worker": 1.0, "database": 1.0}, 0.0, 1000.0)
    form = Form(system="celery", batch_size=1, messages=100)
    form.runs.append(Run(complete=complete, cost=cost))
    comparison = Comparison(
        made_at="2026-12-01", seconds=1, rounds=1, machine={}, versions={}, settings={},
        warnings=[], forms=[form],
    )  # fmt: skip
    [_, line, *_] = format_comparison(comparison).splitlines()
    assert line.split()[3] == figures
    assert line.split()[-1] == ("all" if complete == 100 else "99")
