"""Load runs: shapes, thresholds, archived and compared results, and runs that end early."""

import csv
import io
import json
import shutil
import signal
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from simulator.results.archive.store import PAGE_FILE, SUMMARY_FILE, TIMESERIES_FILE
from tests.support.paths import SCENARIOS
from tests.support.shell import FinishedRun, Shell, make_scenario, wait_until

THRESHOLDS = """\
[thresholds]
"throughput" = ">= 0.1"
"queued_to_gateway.p95" = { is = "< 600s", abort = true }
"gateway_to_outcome.p99" = "< 600s"
"ramp-email.delivered.share" = ">= 0.9"
"not_sent.system_error" = { is = "== 0", abort = true }
"gateway.repeats" = "<= 10"
"""
"""The thresholds of scenarios/ramp.toml, with values that the slowest machine meets."""

RAMP = (SCENARIOS / "ramp.toml").read_text().partition("[thresholds]")[0] + THRESHOLDS

TINY = make_scenario(email=20, sms=10, median="10ms", p99="20ms")

FILES = {SUMMARY_FILE, TIMESERIES_FILE, PAGE_FILE}


@pytest.fixture(scope="module")
def ramp(make_shell: Callable[..., Shell]) -> FinishedRun:
    """Return the ramp from scenarios/, as run 1 of its shell; tests may add runs."""
    shell = make_shell()
    return FinishedRun.of(shell, shell.write("ramp.toml", RAMP))


def folder(run: FinishedRun, number: int = 1) -> Path:
    return run.shell.home / "runs" / str(number)


def test_the_ramp_passes_with_its_thresholds(ramp: FinishedRun) -> None:
    thresholds = ramp.result["thresholds"]
    assert len(thresholds) == len(tomllib.loads(RAMP)["thresholds"]) > 0
    assert all(threshold["passed"] for threshold in thresholds)
    assert ramp.stdout.count("✔ threshold") == len(thresholds)
    assert ramp.stdout.rstrip().endswith("every message matches its prediction, thresholds met")
    assert ramp.result["verdict"]["passed"]


def test_arrivals_follow_the_shape(ramp: FinishedRun) -> None:
    figures = ramp.result["figures"]
    rows = list(csv.DictReader(io.StringIO((folder(ramp) / TIMESERIES_FILE).read_text())))
    arrivals = [int(row["arrivals"]) for row in rows]
    assert sum(arrivals) == ramp.result["messages"] == figures["messages"]
    [load] = [line for line in RAMP.splitlines() if line.startswith("load = ")]
    assert 'start = "1s"' in load
    assert arrivals[0] == 0, "the campaign starts after a second"
    growing = [count for count in arrivals if count]
    assert growing[:5] == sorted(growing[:5]), "the rate grows"
    # Latencies count from the intended arrival, so they contain the driver's lag.
    assert figures["queued_to_gateway.max"] > figures["driver_lag.p50"] > 0


def test_the_series_agrees_with_the_report(ramp: FinishedRun) -> None:
    rows = list(csv.DictReader(io.StringIO((folder(ramp) / TIMESERIES_FILE).read_text())))
    [report] = ramp.result["campaigns"]
    total = {name: sum(int(row[name]) for row in rows) for name in ("delivered", "not_sent")}
    assert total["delivered"] == report["sent"]["delivered"]
    assert total["not_sent"] == report["not_sent"]["total"]
    assert [int(row["second"]) for row in rows] == list(range(len(rows)))
    assert int(rows[-1]["in_flight"]) == 0
    assert any(float(row["workers_cpu"] or 0) > 0 for row in rows)
    assert any(int(row["workers_memory"] or 0) > 50_000_000 for row in rows)
    assert any(row["queued_ready"] != "" for row in rows)


def test_the_result_is_archived(ramp: FinishedRun) -> None:
    assert {file.name for file in folder(ramp).iterdir()} == FILES
    assert json.loads((folder(ramp) / SUMMARY_FILE).read_text()) == ramp.result
    assert ramp.result["definition"] == RAMP
    assert ramp.result["absent"] == {}
    assert ramp.result["durability"]["synchronous"] == "full"
    assert str(folder(ramp) / PAGE_FILE) in ramp.stderr
    [listed] = json.loads(ramp.shell.run("runs", "--format", "json").stdout)[-1:]
    assert (listed["run"], listed["scenario"], listed["result"]) == (1, "ramp", "passed")


def test_a_missed_threshold_is_named(shell: Shell) -> None:
    thresholds = '[thresholds]\n"gateway_to_outcome.p99" = "< 1ms"\n"delivered.share" = ">= 0.1"\n'
    ended = shell.run("simulate", shell.write("tiny.toml", f"{TINY}\n{thresholds}"))
    assert ended.returncode == 99, ended.stdout + ended.stderr
    [missed] = [line for line in ended.stdout.splitlines() if line.startswith("✘ threshold")]
    assert missed.split()[2] == "gateway_to_outcome.p99"
    assert ended.stdout.rstrip().endswith("✘ failed          1 of 2 thresholds not met")
    assert "threshold missed" in shell.run("runs").stdout


@pytest.fixture
def slower(ramp: FinishedRun) -> Path:
    """Return the result of a run like the ramp whose gateway took a minute longer to answer."""
    figures = ramp.result["figures"]
    changed = {figure: figures[figure] + 60.0 for figure in SLOWER_FIGURES}
    result = {**ramp.result, "run": 2, "figures": {**figures, **changed}}
    slower = ramp.shell.folder / "slower"
    slower.mkdir(exist_ok=True)
    shutil.copy(folder(ramp) / TIMESERIES_FILE, slower)
    (slower / SUMMARY_FILE).write_text(json.dumps(result))
    return slower


SLOWER_FIGURES = [
    f"{span}.{percentile}"
    for span in ("gateway_to_outcome", "queued_to_final")
    for percentile in ("p50", "p90", "p95", "p99")
]


def test_comparisons(ramp: FinishedRun, slower: Path) -> None:
    """A run has no regression against itself; a slower one has exactly those of its latencies."""
    same = ramp.shell.run("compare", "1", "1", "--fail-on-regression")
    assert same.returncode == 0, same.stdout
    assert same.stdout.rstrip().endswith("✔ no regression")

    changed = ramp.shell.run("compare", "1", slower, "--format", "json", "--fail-on-regression")
    assert changed.returncode == 99
    assert set(json.loads(changed.stdout)["regressions"]) == set(SLOWER_FIGURES)

    page = ramp.shell.folder / "change.html"
    written = ramp.shell.run("compare", folder(ramp), slower / SUMMARY_FILE, "--html", page)
    assert written.returncode == 0, "without --fail-on-regression"
    assert "✘ 8 regressions: " in written.stdout
    assert "<svg" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["compare", "1", "4711"], "run 4711 does not exist; see sendtrace runs"),
        (["compare", "1", "spring"], "spring: neither a run's number nor a file"),
        (["compare", "1", "other.json", "--html", "other.json"], "expected another file to write"),
        (["compare", "1", "9" * 5_000], "does not exist; see sendtrace runs"),
        (["compare", "1", "x" * 5_000], "neither a run's number nor a file"),
        (
            ["compare", "other.json", "1"],
            "got a result of version 1; this sendtrace reads version 3",
        ),
    ],
)
def test_runs_that_can_not_be_compared(ramp: FinishedRun, arguments: list[str], error: str) -> None:
    ramp.shell.write("other.json", json.dumps({**ramp.result, "version": 1}))
    ended = ramp.shell.run(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert error in ended.stderr


SLOW = make_scenario(name="slow", email=5_000, sms=10, median="2s", p99="3s").replace(
    'requires = ["coupon"]', 'load = { shape = { constant = 100 } }\nrequires = ["coupon"]'
)
"""Fifty seconds of arrivals; the tests end it within a few."""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_waits_for_messages_in_progress(
    shell: Shell, signal_number: signal.Signals
) -> None:
    command = shell.start("simulate", shell.write("slow.toml", SLOW))
    wait_until(lambda: shell.count_moved() > 50, "messages move")
    command.process.send_signal(signal_number)
    assert command.wait() == 130, command.stderr_text
    output = command.stdout.read_text()
    result = json.loads((shell.home / "runs" / "1" / SUMMARY_FILE).read_text())
    sent = result["messages"]
    assert 50 < sent < result["planned"] == 5_010
    assert result["state"] == "interrupted"
    assert not result["verdict"]["passed"]
    assert result["verdict"]["as_predicted"]
    assert result["verdict"]["invariants_hold"]
    assert output.rstrip().endswith(
        f"✘ failed          partial: interrupted; {sent:,} of 5,010 messages were queued"
    )
    for campaign in result["prediction"]["campaigns"]:
        assert campaign["as_predicted"] == campaign["messages"], "all sent messages have settled"
        assert campaign["unsettled"] == 0
    assert "SIGTERM again stops at once" in command.stderr_text
    shell.assert_nothing_is_left()
    assert "partial (interrupted)" in shell.run("runs").stdout
    judged = shell.run("judge", "1")
    assert judged.returncode == 130, judged.stderr
    assert judged.stdout.splitlines()[-1] == output.splitlines()[-1]


def test_a_threshold_that_can_no_longer_be_met_aborts_the_run(shell: Shell) -> None:
    thresholds = '[thresholds]\nabort = true\n"not_sent.share" = "<= 0.001"\n'
    ended = shell.run("simulate", shell.write("slow.toml", f"{SLOW}\n{thresholds}"))
    assert ended.returncode == 99, ended.stdout + ended.stderr
    result = json.loads((shell.home / "runs" / "1" / SUMMARY_FILE).read_text())
    assert (result["state"], result["aborted_for"]) == ("aborted", "not_sent.share <= 0.001")
    assert result["messages"] < result["planned"]
    assert result["verdict"]["invariants_hold"]
    assert result["verdict"]["as_predicted"]
    assert "threshold not_sent.share <= 0.001 can no longer be met; stopping" in ended.stderr
    assert "partial: aborted: not_sent.share <= 0.001 could no longer be met" in ended.stdout


def test_repeated_runs_are_one_series(shell: Shell) -> None:
    file = shell.write("tiny.toml", TINY)
    results = shell.folder / "results.json"
    ended = shell.run("simulate", file, "--repeat", "2", "--json", results)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("✔ passed") == 2
    spread = ended.stdout.split("2 runs")[1].splitlines()
    assert spread[0].split() == ["median", "min", "max"]
    assert [line.split()[0] for line in spread[1:3]] == [
        "throughput",
        "queued_to_about_to_be_sent.p95",
    ]
    assert [result["run"] for result in json.loads(results.read_text())] == [1, 2]
    listed = shell.run("runs", "--last", "2")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["run", "2", "1"]
    same_series = shell.run("compare", "1", "2")
    assert "median" not in same_series.stdout, "runs of one series are compared without the others"
    file_of_2 = shell.home / "runs" / "2"
    compared = shell.run("compare", "1", file_of_2)
    assert compared.stdout.count("median of 2 runs") == 1
    assert "Noise: the spread of the repeated runs" in compared.stdout


def test_a_run_with_no_record_leaves_no_files(shell: Shell) -> None:
    file = shell.write("tiny.toml", TINY)
    ended = shell.run("simulate", file, "--no-record")
    assert ended.returncode == 0, ended.stderr
    assert list((shell.home / "runs").iterdir()) == []
    assert "no result" in shell.run("runs").stdout
