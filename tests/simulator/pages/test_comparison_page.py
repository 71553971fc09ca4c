"""The page of a run comparison: verdict, figures and curves, in one file that runs no script."""

import re

import numpy as np

from simulator.pages.comparison_page import render_comparison_page
from simulator.results.archive.comparison import compare_runs
from simulator.results.archive.store import StoredResult
from simulator.results.timeseries import Timeseries
from tests.support.results import make_stored_result

HOSTILE = "</code><script>alert(1)</script>"


def with_curve(run: StoredResult, *in_flight: float) -> StoredResult:
    columns = {
        "second": np.arange(len(in_flight), dtype=np.float64),
        "in_flight": np.array(in_flight, np.float64),
    }
    return StoredResult(name=run.name, summary=run.summary, timeseries=Timeseries(1, columns))


def test_the_page_has_verdict_figures_and_curves() -> None:
    before = with_curve(make_stored_result(), 1, 5, 3)
    after = with_curve(
        make_stored_result(2, {"queued_to_final.p95": 20.0}, definition=HOSTILE), 2, 9, 8, 1
    )
    page = render_comparison_page(compare_runs([before], [after]))
    assert "✘ 1 regression: queued_to_final.p95" in page
    assert "+10.000 s (+100 %)" in page
    assert page.count("<svg") >= 1
    assert "Messages in flight" in page
    assert "No chart: neither run has values." in page
    assert "<script" not in page
    assert "&lt;/code&gt;&lt;script&gt;" in page
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\';' in page


def test_a_partial_run_is_not_judged() -> None:
    page = render_comparison_page(
        compare_runs(
            [make_stored_result()],
            [make_stored_result(2, {"throughput": 1.0}, state="interrupted")],
        )
    )
    assert "! not judged: run 2 is partial (interrupted)" in page
    assert re.search(r"after: run 2 · .* · seed 1 · interrupted · 20\d\d-", page)
    assert "Caveat: the run after: partial: interrupted." in page
    assert 'class="banner fail"' not in page


def test_runs_without_curves() -> None:
    page = render_comparison_page(
        compare_runs(
            [make_stored_result(1), make_stored_result(2), make_stored_result(3)],
            [make_stored_result(9)],
        )
    )
    assert "✔ no regression" in page
    assert "median of 3 runs" in page
    assert "<svg" not in page.split('id="curves"')[1]
    assert "None: both runs have the same scenario" in page
