"""`simulate`: real workers, a real broker, and every message as predicted."""

import csv
import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from simulator.figures import PERCENTILES, list_figure_units
from tests.support.paths import SCENARIOS
from tests.support.private_files import find_open_files
from tests.support.shell import SCRIPT, FinishedRun, Shell, make_scenario, wait_until, without_times

KEYS = {
    *("version", "run", "scenario", "seed", "state", "aborted_for", "started_at", "speed"),
    "actions",
    *("planned", "messages", "seconds", "throughput", "workers", "batch_size", "database"),
    *("timezone", "durability", "machine", "versions", "absent", "verdict", "thresholds"),
    *("figures", "rejects", "campaigns", "prediction", "invariants", "definition"),
    *("faults", "recovery", "snapshots", "expectations"),
    *("resumed", "limited_by", "resolution", "not_comparable", "check_times", "failures"),
    "suppressions",
}


def test_all_messages_end_as_predicted(finished: FinishedRun) -> None:
    assert finished.stdout.count("✔ balanced") == 2
    assert finished.stdout.count("✔ matches prediction") == 2
    assert "1,500 of 1,500 messages" in finished.stdout
    assert "700 of 700 messages" in finished.stdout
    assert "✘" not in finished.stdout
    assert finished.stdout.rstrip().splitlines()[-1].startswith("✔ passed")


def test_the_result_has_every_key(finished: FinishedRun) -> None:
    result = finished.result
    assert set(result) == KEYS
    assert result["version"] == 3
    assert (result["scenario"], result["seed"], result["messages"]) == ("small", 11, 2_200)
    assert (result["workers"], result["batch_size"]) == (2, 500)
    assert all(invariant["holds"] for invariant in result["invariants"])
    assert result["verdict"] == {
        "balanced": True,
        "invariants_hold": True,
        "as_predicted": True,
        "thresholds_met": True,
        "expectations_met": True,
        "passed": True,
    }
    figures = result["figures"]
    assert list(figures) == list(list_figure_units(["spring-email", "spring-sms"]))
    for span in ("queued_to_gateway", "queued_to_final", "gateway_to_outcome"):
        of_it = [figures[f"{span}.{name}"] for name in PERCENTILES]
        assert of_it == sorted(of_it)
        assert of_it[0] > 0
    # Half of the messages wait longer than the gateway's median latency.
    assert figures["queued_to_final.p50"] >= 0.2


def test_the_result_names_the_database(on_sqlite: FinishedRun, on_postgresql: FinishedRun) -> None:
    assert on_sqlite.result["database"] == "sqlite"
    assert on_postgresql.result["database"] == "postgresql"
    assert not on_postgresql.shell.database.exists()


def test_the_state_folder_is_private(finished: FinishedRun) -> None:
    assert find_open_files(finished.shell.home) == []
    new_file = finished.shell.write("new", "")
    result_file = finished.shell.folder / "result.json"
    assert result_file.stat().st_mode == new_file.stat().st_mode


def test_the_result_agrees_with_the_report(finished: FinishedRun) -> None:
    assert without_times(finished.shell.reports()) == without_times(finished.result["campaigns"])


def test_every_outcome_of_the_scenario_occurs(on_sqlite: FinishedRun) -> None:
    email, sms = on_sqlite.result["campaigns"]
    for count in (
        email["sent"]["delivered"],
        email["sent"]["bounced"]["hard"],
        email["sent"]["not_delivered"],
        email["not_sent"]["internally_suppressed"]["unsubscribed"],
        email["not_sent"]["incomplete_or_invalid"]["email_missing"],
        email["not_sent"]["incomplete_or_invalid"]["coupon_expired"],
        sms["sent"]["bounced"]["soft"],
        sms["not_sent"]["internally_suppressed"]["ndnc"],
        sms["not_sent"]["incomplete_or_invalid"]["not_in_loyalty_program"],
    ):
        assert count > 0
    assert email["in_progress"]["total"] == sms["in_progress"]["total"] == 0
    assert email["sent"]["in_gateway"] == sms["sent"]["in_gateway"] == 0


def test_progress_goes_to_stderr_as_plain_lines(finished: FinishedRun) -> None:
    assert "all messages settled" in finished.stderr
    assert "\x1b" not in finished.stderr
    assert "\r" not in finished.stderr
    assert finished.stdout.startswith("Live Monitoring Report")
    assert "\x1b" not in finished.stdout
    assert "settled" not in finished.stdout


def test_the_database_makes_no_difference(
    on_sqlite: FinishedRun, on_postgresql: FinishedRun
) -> None:
    assert on_sqlite.outcome_digests == on_postgresql.outcome_digests
    reports = (without_times(run.result["campaigns"]) for run in (on_sqlite, on_postgresql))
    assert next(reports) == next(reports)


@pytest.mark.parametrize(("workers", "batch_size"), [("1", "100"), ("3", "7000")])
def test_workers_and_batches_make_no_difference(
    on_sqlite: FinishedRun, shell: Shell, workers: str, batch_size: str
) -> None:
    file = shell.write("small.toml", make_scenario())
    options = ("--workers", workers, "--batch-size", batch_size, "--no-record")
    other = FinishedRun.of(shell, file, *options)
    assert other.result["workers"] == int(workers)
    assert other.outcome_digests == on_sqlite.outcome_digests
    expected = without_times(on_sqlite.result["campaigns"])
    assert without_times(other.result["campaigns"]) == expected
    assert without_times(shell.reports()) == expected


def test_the_result_file_is_written_when_stdout_is_closed(shell: Shell) -> None:
    file = shell.write("tiny.toml", make_scenario(email=20, sms=10, median="10ms", p99="20ms"))
    simulate = f"simulate '{file}' --no-record --json result.json"
    command = f"'{sys.executable}' -m simulator {simulate} | true"
    ended = shell.run("-c", command, program=("sh",))
    assert "Traceback" not in ended.stderr
    assert json.loads((shell.folder / "result.json").read_text())["verdict"]["passed"]


def test_the_result_is_printed_when_its_file_can_not_be_written(shell: Shell) -> None:
    # The run lasts until it is interrupted, which is after its folder has gone.
    endless = make_scenario(email=20, sms=10, median="10ms", p99="20ms").replace(
        'requires = ["coupon"]', 'load = { start = "10m" }\nrequires = ["coupon"]'
    )
    (shell.folder / "results").mkdir()
    file = shell.write("endless.toml", endless)
    command = shell.start("simulate", file, "--json", "results/result.json")
    wait_until(lambda: shell.count_moved() == 10, "the campaign without a start moves")
    (shell.folder / "results").rmdir()
    command.process.send_signal(signal.SIGINT)
    assert command.wait() == 1, command.stderr_text
    assert "partial: interrupted" in command.stdout.read_text()
    last = command.stderr_text.splitlines()[-1]
    assert last.startswith("sendtrace: --json results/result.json: can't be written: ")


def test_a_state_folder_with_an_odd_name(shell: Shell) -> None:
    file = shell.write("tiny.toml", make_scenario(email=20, sms=10, median="10ms", p99="20ms"))
    odd = {"SENDTRACE_HOME": str(shell.folder / "50% of #1? é")}
    assert shell.run("simulate", file, settings=odd).returncode == 0
    ended = shell.run("report", settings=odd)
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in shell.folder.iterdir()} == {"tiny.toml", "50% of #1? é"}


def test_another_seed_means_other_outcomes(on_sqlite: FinishedRun, shell: Shell) -> None:
    other = FinishedRun.of(
        shell, shell.write("small.toml", make_scenario()), "--seed", "12", "--no-record"
    )
    assert other.result["seed"] == 12
    assert other.result["limited_by"]["cause"] == "unknown"
    assert "nothing was sampled" in other.result["limited_by"]["sentence"]
    for campaign, digest in other.outcome_digests.items():
        assert digest != on_sqlite.outcome_digests[campaign]


def test_a_batch_of_one_message(shell: Shell) -> None:
    file = shell.write("tiny.toml", make_scenario(email=20, sms=10, median="10ms", p99="20ms"))
    command = shell.start("simulate", file, "--batch-size", "1", "--no-record", program=SCRIPT)
    assert command.wait() == 0, command.stderr_text
    assert "20 of 20 messages" in command.stdout.read_text()
    assert shell.query_number("SELECT count(*) FROM batches") == 30
    shell.assert_nothing_is_left()
    assert list(shell.scratch.iterdir()) == []


def test_credit_short_of_the_audience(shell: Shell) -> None:
    scenario = make_scenario(email=1_500, sms=700, credit=1_000, median="10ms", p99="20ms")
    run = FinishedRun.of(
        shell, shell.write("poor.toml", scenario), "--batch-size", "150", "--no-record"
    )
    reports = run.result["campaigns"]
    assert sum(report["sent"]["total"] for report in reports) == 1_000
    stopped = sum(
        count
        for report in reports
        for group in ("internally_suppressed", "incomplete_or_invalid")
        for reason, count in report["not_sent"][group].items()
        if reason not in ("total", "out_of_credit")
    )
    short = {"predicted": 1_200 - stopped, "actual": 1_200 - stopped}
    assert run.result["prediction"]["withheld"] == {"Acme Retail": short}
    assert f"✔ withheld        {1_200 - stopped:,} of Acme Retail" in run.stdout
    assert run.stdout.count("✔ matches prediction") == 2
    assert shell.query_number("SELECT credit FROM organizations") == 0


def test_an_audience_file(shell: Shell) -> None:
    for name in ("from-csv.toml", "customers.csv"):
        shutil.copy(SCENARIOS / name, shell.folder)
    run = FinishedRun.of(shell, "from-csv.toml", "--no-record")
    assert [report["audience"] for report in run.result["campaigns"]] == [1_976, 1_976]
    assert run.stdout.count("1,976 of 1,976 messages") == 2
    [rejects] = run.result["rejects"]
    assert rejects["rows"] == 24
    assert "24 rows could not be read" in run.stderr
    assert rejects["file"] in run.stderr
    with Path(rejects["file"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert sum("duplicate" in row["cause"] for row in rows) == 14
    assert all(int(row["line"]) > 1 and row["cause"] for row in rows)


def test_an_untidy_export(shell: Shell) -> None:
    """One command inspects it and writes its mapping, another runs it."""
    shutil.copy(SCENARIOS / "crm.toml", shell.folder)
    (shell.folder / "crm").mkdir()
    shutil.copy(SCENARIOS / "crm" / "crm.csv", shell.folder / "crm")
    inspected = shell.run(
        *("audience", "inspect", "crm/crm.csv", "--region", "GB", "--other-columns", "field"),
        *("--write", "crm/crm.mapping.toml"),
    )
    assert (inspected.returncode, inspected.stderr) == (0, "")
    run = FinishedRun.of(shell, "crm.toml")
    assert [report["audience"] for report in run.result["campaigns"]] == [4_882, 4_882]
    assert run.result["figures"]["rejects"] == 118
    assert run.result["verdict"]["thresholds_met"]


@pytest.mark.parametrize(
    "command", [[], ["simulate"], ["report"], ["trace"], ["verify"], ["runs"], ["compare"]]
)
def test_help(shell: Shell, command: list[str]) -> None:
    module = shell.run(*command, "--help")
    script = shell.run(*command, "--help", program=SCRIPT)
    assert (module.returncode, module.stdout) == (script.returncode, script.stdout)
    assert (module.returncode, module.stderr) == (0, "")
    text = " ".join(module.stdout.split())
    assert text.startswith(f"Usage: {' '.join(['sendtrace', *command])} ")
    assert not command or f"sendtrace {command[0]}" in text.split("Example", 1)[1]
    assert not shell.home.exists()


def test_the_result_file_is_one_document(on_sqlite: FinishedRun) -> None:
    text = (on_sqlite.shell.folder / "result.json").read_text()
    assert text.endswith("}\n")
    assert json.loads(text) == on_sqlite.result
