"""`report`, `trace` and `verify` after a run."""

import csv
import io
import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.support.shell import LIMIT_SECONDS, MODULE, FinishedRun, Shell, without_times
from tracker.output.report_lines import SHARES_MEANING

TASK_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_report_as_a_table(finished: FinishedRun) -> None:
    ended = finished.shell.run("report")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("✔ balanced") == 2
    for report in ended.stdout.rstrip("\n").split("\n\n\n"):
        heading, _, lines = report.partition("\n")
        assert re.search(r"· run 1 · seed 11 · finished · \d.* UTC$", heading)
        assert lines in finished.stdout


def test_report_of_one_campaign(on_sqlite: FinishedRun) -> None:
    expected = without_times(on_sqlite.result["campaigns"])
    assert without_times(on_sqlite.shell.reports("spring-sms")) == expected[1:]
    assert without_times(on_sqlite.shell.reports("--run", "1")) == expected


def test_report_explains_its_lines(on_sqlite: FinishedRun) -> None:
    explained = on_sqlite.shell.run("report", "spring-email", "--explain").stdout
    assert "Recipients who opened the email, as of the last daily rollup (1 am)." in explained
    assert SHARES_MEANING in explained
    for options in (("--days",), ("--format", "json"), ("--format", "csv")):
        ended = on_sqlite.shell.run("report", "--explain", *options)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "--explain: works only with the table of the report" in ended.stderr


def test_report_by_day(on_sqlite: FinishedRun) -> None:
    table = on_sqlite.shell.run("report", "--days").stdout
    assert table.startswith("Engagement by day   spring-email · email · run 1 · seed 11 · finished")
    days = json.loads(on_sqlite.shell.run("report", "--days", "--format", "json").stdout)
    assert [campaign["campaign"] for campaign in days] == ["spring-email", "spring-sms"]
    rows = on_sqlite.shell.run("report", "--days", "--format", "csv").stdout
    assert rows.startswith("campaign,channel,run,seed,state,as_of,engagement_as_of,day,opened")


def test_report_as_csv(finished: FinishedRun) -> None:
    ended = finished.shell.run("report", "--format", "csv")
    assert (ended.returncode, ended.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    for row, report in zip(rows, finished.result["campaigns"], strict=True):
        assert row["campaign"] == report["campaign"]
        assert int(row["audience"]) == report["audience"]
        assert int(row["sent.bounced.soft"]) == report["sent"]["bounced"]["soft"]
        suppressed = report["not_sent"]["internally_suppressed"]
        assert int(row["not_sent.internally_suppressed.ndnc"]) == suppressed["ndnc"]


@pytest.mark.parametrize("command", [("report",), ("verify",), ("trace", 0)], ids=lambda c: c[0])
def test_unknown_campaign(on_sqlite: FinishedRun, command: tuple[Any, ...]) -> None:
    name, *rest = command
    ended = on_sqlite.shell.run(name, "spring-emial", *map(str, rest))
    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert "'spring-emial'" in line
    assert "did you mean spring-email" in line


def test_unknown_run(on_sqlite: FinishedRun) -> None:
    ended = on_sqlite.shell.run("report", "--run", "99")
    assert ended.returncode == 2
    assert ended.stderr == "sendtrace: unknown run 99\n"


def _email(on_sqlite: FinishedRun, condition: str) -> str:
    """Return the number of the first email that meets a condition, the same on every database."""
    query = "SELECT min(number) FROM messages_by_name WHERE campaign = 'spring-email' AND "
    return str(on_sqlite.shell.query_number(query + condition))


def _assert_timeline(
    finished: FinishedRun, number: str, *expected: tuple[str, int, str], reason: str | None = None
) -> None:
    """Check what `trace` prints of an email, as JSON and as a table."""
    ended = finished.shell.run("trace", "spring-email", number, "--format", "json")
    assert (ended.returncode, ended.stderr) == (0, "")
    timeline = json.loads(ended.stdout)
    assert timeline["number"] == int(number)
    assert timeline["customer_id"] == f"c{number}"
    assert timeline["batch"] == int(number) // 500
    events = timeline["events"]
    assert [(event["status"], event["attempt"], event["step"]) for event in events] == [*expected]
    assert [event["reason"] for event in events] == [None] * (len(events) - 1) + [reason]
    times = [event["at"] for event in events]
    assert times == sorted(times)
    assert events[0]["worker"] == "driver"
    for event in events[1:]:
        assert event["worker"].startswith("run-")
        assert TASK_ID.fullmatch(event["task_id"])
    table = finished.shell.run("trace", "spring-email", number)
    assert table.returncode == 0
    assert table.stdout.startswith(f"Message {number}   spring-email · email · run 1 · ")
    assert f"\ncustomer c{number} · batch " in table.stdout
    for event in events:
        [line] = [
            line
            for line in table.stdout.splitlines()
            if re.search(rf"  {event['status']} +{event['attempt'] or ''}  ", line)
        ]
        assert event["worker"] in line
        assert (event["task_id"] or "-") in line
    assert reason is None or f"{reason}: " in table.stdout


def test_trace_of_a_delivered_message(on_sqlite: FinishedRun, finished: FinishedRun) -> None:
    _assert_timeline(
        finished,
        _email(on_sqlite, "status = 'delivered' AND attempt = 1"),
        ("queued", 0, "enqueue"),
        ("about_to_be_sent", 0, "dispatch"),
        ("in_gateway", 1, "submit"),
        ("delivered", 1, "deliver"),
    )


def test_trace_of_a_message_not_sent(on_sqlite: FinishedRun, finished: FinishedRun) -> None:
    _assert_timeline(
        finished,
        _email(on_sqlite, "reason = 'email_missing'"),
        ("queued", 0, "enqueue"),
        ("not_sent", 0, "validate"),
        reason="email_missing",
    )


def test_the_story_of_a_second_attempt(on_sqlite: FinishedRun, finished: FinishedRun) -> None:
    _assert_timeline(
        finished,
        _email(on_sqlite, "status = 'delivered' AND attempt = 2"),
        ("queued", 0, "enqueue"),
        ("about_to_be_sent", 0, "dispatch"),
        ("in_gateway", 1, "submit"),
        ("soft_bounced", 1, "deliver"),
        ("in_gateway", 2, "submit"),
        ("delivered", 2, "deliver"),
    )


@pytest.mark.parametrize("number", ["1500", str(2**31)])
def test_unknown_number(finished: FinishedRun, number: str) -> None:
    ended = finished.shell.run("trace", "spring-email", "--", number)
    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert f"has no message {number}; expected 0 to 1,499" in line


def test_verify(finished: FinishedRun) -> None:
    ended = finished.shell.run("verify")
    assert (ended.returncode, ended.stderr) == (0, "")
    *stored, of_the_run = finished.result["invariants"]
    assert of_the_run["invariant"] == "snapshots_balance", "known only during the run"
    assert finished.result["snapshots"] > 1
    assert ended.stdout.count("✔") == len(stored)
    assert "✘" not in ended.stdout
    as_json = json.loads(finished.shell.run("verify", "--format", "json").stdout)
    for result in as_json:
        runs = {(about["run"], about["state"]) for about in result.pop("campaigns")}
        assert runs == {(1, "finished")}
    assert as_json == stored


@pytest.fixture
def tampered(on_sqlite: FinishedRun, shell: Shell) -> Callable[[str], Shell]:
    """Return a function that copies the finished run and executes a statement in the copy."""

    def tamper(statement: str) -> Shell:
        shutil.copytree(on_sqlite.shell.home, shell.home)
        with closing(sqlite3.connect(shell.database)) as connection:
            *settings, change = statement.split("; ")
            for setting in settings:
                connection.execute(setting)
            assert connection.execute(change).rowcount == 1
            connection.commit()
        return shell

    return tamper


TAMPERING = {
    "a transition is deleted": (
        "DELETE FROM transitions WHERE (campaign_id, number, status, attempt) IN"
        " (SELECT campaign_id, number, status, attempt FROM messages WHERE campaign_id = 1"
        "  AND number = 42)",
        {"last_transition": "number 42", "flow": "", "steps": ""},
    ),
    "a tally is changed": (
        "UPDATE tallies SET messages = messages + 1 WHERE (campaign_id, batch, status, reason,"
        " attempt) IN (SELECT campaign_id, 0, status, reason, attempt FROM messages"
        "  WHERE campaign_id = 1 AND number = 42)",
        {"tallies": "batch 0", "report_balances": ""},
    ),
    "the gateway accepted a message that is Not Sent": (
        "INSERT INTO gateway_ledger (campaign_id, number, attempt, accepted_at, outcome, due_at)"
        " SELECT campaign_id, number, 1, 1, (SELECT min(outcome) FROM gateway_ledger), 2"
        " FROM messages WHERE campaign_id = 1 AND reason <> 0 ORDER BY number LIMIT 1",
        {"accepted_is_recorded": "attempt 1"},
    ),
    "a transition is recorded twice": (
        "INSERT INTO transitions SELECT campaign_id, status, attempt + 1, number, previous, reason,"
        " at, step_id FROM transitions WHERE campaign_id = 1 AND status = (SELECT min(status) FROM"
        " transitions WHERE previous IS NOT NULL AND attempt = 1) AND attempt = 1"
        " ORDER BY number LIMIT 1",
        {"recorded_is_accepted": "attempt 2", "flow": "", "steps": ""},
    ),
    "a transition is forged": (
        "PRAGMA ignore_check_constraints = ON; UPDATE transitions SET previous = (SELECT"
        " min(status) FROM transitions WHERE previous IS NULL)"
        " WHERE campaign_id = 1 AND number = 42"
        " AND status = (SELECT status FROM messages WHERE campaign_id = 1 AND number = 42)"
        " AND previous <> (SELECT min(status) FROM transitions WHERE previous IS NULL)",
        {"legal_history": "number 42", "flow": ""},
    ),
    "a message is deleted": (
        "DELETE FROM messages WHERE campaign_id = 1 AND number = 42",
        {"acknowledged_settles": "there", "tallies": "batch 0", "flow": ""},
    ),
    "a message was never finished": (
        "DROP TRIGGER messages_legal; UPDATE messages SET status = 1, attempt = 0"
        " WHERE campaign_id = 1 AND number = (SELECT min(number) FROM messages WHERE"
        " campaign_id = 1 AND attempt = 1)",
        {
            "acknowledged_settles": "unsettled 1",
            "tallies": "",
            "flow": "",
        },
    ),
    "the gateway's record of a message is deleted": (
        "DELETE FROM gateway_ledger WHERE (campaign_id, number, attempt) IN"
        " (SELECT campaign_id, number, attempt FROM gateway_ledger ORDER BY 1, 2, 3 LIMIT 1)",
        {"recorded_is_accepted": "attempt 1"},
    ),
}


@pytest.mark.parametrize(("statement", "broken"), TAMPERING.values(), ids=TAMPERING.keys())
def test_verify_after_tampering(
    tampered: Callable[[str], Shell], statement: str, broken: dict[str, str]
) -> None:
    shell = tampered(statement)
    ended = shell.run("verify", "--format", "json")
    assert (ended.returncode, ended.stderr) == (3, "")
    results = {result["invariant"]: result for result in json.loads(ended.stdout)}
    assert {name for name, result in results.items() if not result["holds"]} == broken.keys()
    table = shell.run("verify")
    assert table.returncode == 3
    for name, row in broken.items():
        assert results[name]["wrong"] >= 1
        rest = table.stdout.split(f"✘ {name}", 1)[1]
        lines = rest.split("✔", 1)[0].split("✘", 1)[0]
        assert "wrong; the first:" in lines
        assert row in lines
    assert shell.run("verify", "spring-sms").returncode == 0


@pytest.mark.parametrize("command", [("report",), ("verify",), ("trace", "x", "0")])
def test_empty_folder_is_an_error(shell: Shell, command: tuple[str, ...]) -> None:
    ended = shell.run(*command)
    assert ended.returncode == 2
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert "nothing is recorded" in line
    assert "sendtrace simulate" in line
    assert not shell.home.exists()


@pytest.mark.parametrize("layer", ["tracker", "simulator"])
def test_database_of_a_newer_version(tampered: Callable[[str], Shell], layer: str) -> None:
    shell = tampered(f"UPDATE {layer}_version SET version_num = '9999'")  # noqa: S608  # a constant
    for command in (("report",), ("verify",)):
        ended = shell.run(*command)
        assert ended.returncode == 2
        assert ended.stdout == ""
        [line] = ended.stderr.splitlines()
        assert "was made by a newer version of sendtrace" in line
        assert "9999" in line


DAMAGES = {
    "channel": ("UPDATE campaigns SET channel = 'fax' WHERE id = 1", {"report": 1, "verify": 1}),
    "requires": ("UPDATE campaigns SET requires = '{' WHERE id = 1", {"report": 1, "verify": 1}),
    "attempts": ("UPDATE campaigns SET attempts = 4611686018427387904 WHERE id = 1", {"report": 0}),
    "tally": (
        "UPDATE tallies SET status = 99 WHERE (campaign_id, batch, status, reason, attempt) IN"
        " (SELECT campaign_id, batch, status, reason, attempt FROM tallies LIMIT 1)",
        {"report": 1, "verify": 3},
    ),
    "huge tally": (
        "UPDATE tallies SET messages = 9223372036854775807 WHERE"
        " (campaign_id, batch, status, reason, attempt) IN"
        " (SELECT campaign_id, batch, status, reason, attempt FROM tallies"
        "  WHERE messages > 0 LIMIT 1)",
        {"report": 1, "verify": 1},
    ),
    "transition": (
        "UPDATE transitions SET previous = 99, at = 9223372036854775807"
        " WHERE campaign_id = 1 AND number = 42 AND status = 1",
        {"verify": 3, "trace": 0},
    ),
    "blob": (
        "UPDATE transitions SET reason = x'00ff' WHERE campaign_id = 1 AND number = 42"
        " AND status = 1",
        {"verify": 3, "trace": 0},
    ),
}


@pytest.mark.parametrize(("statement", "ends"), DAMAGES.values(), ids=DAMAGES.keys())
def test_rows_edited_by_hand(
    tampered: Callable[[str], Shell], statement: str, ends: dict[str, int]
) -> None:
    shell = tampered(f"PRAGMA ignore_check_constraints = ON; {statement}")
    for command, code in ends.items():
        arguments = ("spring-email", "42") if command == "trace" else ()
        for form in ("table", "json"):
            ended = shell.run(command, *arguments, "--format", form)
            assert ended.returncode == code, ended.stderr + ended.stdout
            assert "Traceback" not in ended.stderr
            assert len(ended.stderr.splitlines()) == (1 if code == 1 else 0)


def test_missing_database_file_is_not_created(shell: Shell) -> None:
    for command in (("report",), ("verify",), ("trace", "x", "0")):
        ended = shell.run(*command, "--database", "sqlite:///typo.db")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert ended.stderr == "sendtrace: the database typo.db does not exist\n"
    assert list(shell.folder.iterdir()) == []


def test_control_characters_in_names_are_escaped(tampered: Callable[[str], Shell]) -> None:
    shell = tampered(
        "UPDATE customers SET customer_id = char(27) || '[31m' || customer_id"
        " WHERE audience_id = 1 AND number = 42"
    )
    ended = shell.run("trace", "spring-email", "42")
    assert r"customer \x1b[31mc42" in ended.stdout
    assert "\x1b" not in ended.stdout


def test_output_into_a_pipe(on_sqlite: FinishedRun) -> None:
    command = f"{shlex.join(MODULE)} report | head -1"
    ended = subprocess.run(
        ["sh", "-c", command],
        cwd=on_sqlite.shell.folder,
        env=on_sqlite.shell.environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    assert ended.stdout.startswith("Live Monitoring Report")
    assert ended.stdout.count("\n") == 1
    assert ended.stderr == ""


@pytest.mark.parametrize(
    "command", [("report",), ("verify",), ("trace", "spring-email", "0")], ids=lambda c: c[0]
)
def test_closed_pipe_ends_the_command_quietly(
    on_sqlite: FinishedRun, command: tuple[str, ...]
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [*MODULE, *command],
            cwd=on_sqlite.shell.folder,
            env=on_sqlite.shell.environment,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    finally:
        os.close(writing)
    assert "BrokenPipeError" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 141


def test_terminal_without_unicode(on_sqlite: FinishedRun) -> None:
    for command in (("report",), ("verify",), ("trace", "spring-email", "0")):
        ended = on_sqlite.shell.run(
            *command, program=MODULE, settings={"PYTHONIOENCODING": "ascii"}
        )
        assert (ended.returncode, ended.stderr) == (0, "")


def test_full_disk_is_an_error(on_sqlite: FinishedRun) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*MODULE, "report"],
            cwd=on_sqlite.shell.folder,
            env=on_sqlite.shell.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "No space left" in ended.stderr
