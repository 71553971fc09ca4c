"""Wrong input: one clear message, exit code 2, and nothing is written."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.shell import Shell, make_scenario

VALID = make_scenario(email=30, sms=10)

PASSWORD = "hunter2secret"  # noqa: S105  # must not appear in any message

FROM_FILE = """
name = "from-file"

[[campaigns]]
name = "spring-email"
channel = "email"
audience = "customers.csv"
"""


@dataclass(frozen=True, kw_only=True)
class BadInput:
    """Wrong input, and words that the message must contain."""

    words: tuple[str, ...]
    scenario: str = VALID
    options: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    file: str = "scenario.toml"


def _with(old: str, new: str) -> str:
    assert old in VALID
    return VALID.replace(old, new, 1)


TABLE = {
    "unknown key": BadInput(
        scenario=_with("hard_bounce", "hard_bounces"),
        words=("scenario.toml", "gateways.email.hard_bounces", "unknown key", "hard_bounce"),
    ),
    "wrong type": BadInput(
        scenario=_with("audience = 30", 'audience = ["many"]'),
        words=("campaigns[0].audience", "number", "file"),
    ),
    "share out of range": BadInput(
        scenario=_with("hard_bounce = 0.02", "hard_bounce = 1.5"),
        words=("gateways.email.hard_bounce", "1.5", "from 0 to 1"),
    ),
    "shares above 1": BadInput(
        scenario=_with("email_missing = 0.03", "email_missing = 0.97"),
        words=("campaigns[0]", "defects", "1.04", "expected at most 1"),
    ),
    "duplicate names": BadInput(
        scenario=_with("spring-sms", "spring-email"), words=("campaigns", "'spring-email'")
    ),
    "invalid TOML": BadInput(
        scenario="name = \n", words=("scenario.toml", "is not TOML", "line 1")
    ),
    "missing scenario": BadInput(file="missing.toml", words=("missing.toml", "No such file")),
    "a folder for a scenario": BadInput(file=".", words=("Is a directory",)),
    "missing audience file": BadInput(scenario=FROM_FILE, words=("customers.csv", "No such file")),
    "bad audience header": BadInput(
        scenario=FROM_FILE,
        files={"customers.csv": "customer_id,e-mail\n1,a@example.com\n"},
        words=("customers.csv", "'e-mail'", "did you mean email"),
    ),
    "unreachable PostgreSQL": BadInput(
        options=("--database", f"postgresql://me:{PASSWORD}@127.0.0.1:1/x"),
        words=("postgresql", "127.0.0.1:1", "refused"),
    ),
    "unreachable broker": BadInput(
        options=("--broker", f"redis://me:{PASSWORD}@127.0.0.1:1/0"),
        words=("broker", "127.0.0.1:1", "does not answer"),
    ),
    "broker of the environment": BadInput(
        settings={"SENDTRACE_BROKER_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0"},
        words=("broker", "127.0.0.1:1", "does not answer"),
    ),
    "invalid URL of a broker": BadInput(
        options=("--broker", f"redis://:{PASSWORD}@[::1"), words=("broker", "redis://HOST")
    ),
    "wrong kind of broker": BadInput(
        options=("--broker", f"amqp://me:{PASSWORD}@localhost//"), words=("broker", "redis://")
    ),
    "wrong kind of database": BadInput(
        options=("--database", f"mysql://me:{PASSWORD}@localhost/x"),
        words=("mysql", "sqlite or postgresql"),
    ),
    "a database in memory": BadInput(options=("--database", "sqlite://"), words=("needs a file",)),
    "state folder below a file": BadInput(
        files={"occupied": ""},
        settings={"SENDTRACE_HOME": "occupied/home"},
        words=("occupied/home", "SENDTRACE_HOME"),
    ),
    "unknown time zone": BadInput(
        settings={"SENDTRACE_TIMEZONE": "Mars/Olympus"}, words=("SENDTRACE_TIMEZONE", "Mars")
    ),
    "result to a missing folder": BadInput(
        options=("--json", "missing/result.json"), words=("--json", "missing/result.json")
    ),
    "credit too large": BadInput(
        scenario=_with('"Acme Retail"', f'"Acme Retail"\ncredit = {10**25}'),
        words=("organization.credit", "expected at most"),
    ),
    "bounce limit too large": BadInput(
        scenario=_with('"Acme Retail"', f'"Acme Retail"\nhard_bounce_limit = {10**13}'),
        words=("organization.hard_bounce_limit", "expected at most"),
    ),
    "latency too large": BadInput(
        scenario=_with('"400ms"', '"999999999999999h"'), words=("gateways.email.latency.p99",)
    ),
    "audience file with a NUL character": BadInput(
        scenario=FROM_FILE.replace("customers.csv", r"a\u0000.csv"),
        words=("scenario.toml",),
    ),
    "organization with a NUL character": BadInput(
        scenario=_with('"Acme Retail"', r'"Acme\u0000"'), words=("organization.name",)
    ),
    "lists in lists in lists": BadInput(
        scenario=f"{VALID}\nx = {'[' * 5_000}", words=("scenario.toml", "is not TOML")
    ),
    "key that would colour the terminal": BadInput(
        scenario=f'"\\u001b[31mred" = 1\n{VALID}', words=("scenario.toml", "unknown key")
    ),
    "no workers": BadInput(
        options=("--workers", "0"), words=("--workers", "greater than or equal to 1")
    ),
    "batches of none": BadInput(
        options=("--batch-size", "0"), words=("--batch-size", "greater than or equal to 1")
    ),
    "negative seed": BadInput(
        options=("--seed", "-1"), words=("--seed", "greater than or equal to 0")
    ),
    "seed too large": BadInput(
        options=("--seed", str(2**63)), words=("seed", "expected less than")
    ),
}


@pytest.mark.parametrize("bad", TABLE.values(), ids=TABLE.keys())
def test_bad_input(shell: Shell, bad: BadInput) -> None:
    shell.write("scenario.toml", bad.scenario)
    for name, text in bad.files.items():
        shell.write(name, text)
    before = _files(shell.folder)
    ended = shell.run("simulate", bad.file, *bad.options, settings=bad.settings)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    _assert_one_clear_message(ended.stderr, bad.words)
    _assert_nothing_is_recorded(shell)
    assert {file for file in _files(shell.folder) if shell.home not in file.parents} == before
    assert list(shell.scratch.iterdir()) == []


def _files(folder: Path) -> set[Path]:
    return {file for file in folder.rglob("*") if file.is_file()}


def _assert_one_clear_message(stderr: str, words: tuple[str, ...]) -> None:
    starts = ("sendtrace: ", "Error: ")
    assert sum(line.startswith(starts) for line in stderr.splitlines()) == 1, stderr
    assert "Traceback" not in stderr
    assert "\x1b" not in stderr
    assert PASSWORD not in stderr
    for word in words:
        assert word in stderr


def _assert_nothing_is_recorded(shell: Shell) -> None:
    assert shell.query_number("SELECT count(*) FROM runs") == 0


def test_all_errors_of_a_scenario_are_reported_at_once(shell: Shell) -> None:
    scenario = _with("seed = 11", "sead = 11").replace("hard_bounce = 0.01", "hard_bounce = 2.0")
    ended = shell.run("simulate", shell.write("scenario.toml", scenario))
    assert ended.returncode == 2
    first, second = ended.stderr.splitlines()
    assert "did you mean seed?" in first + second
    assert "gateways.sms.hard_bounce" in first + second


def test_a_wrong_key_of_a_campaign_is_one_error(shell: Shell) -> None:
    scenario = _with('"spring-email"', '"spring email"')
    ended = shell.run("simulate", shell.write("scenario.toml", scenario))
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert "campaigns[0].name" in line


@pytest.mark.parametrize("before", [None, "{}\n"], ids=["no file", "earlier result"])
def test_a_run_that_can_not_begin_leaves_the_result_file_alone(
    shell: Shell, before: str | None
) -> None:
    result = shell.folder / "result.json"
    if before is not None:
        result.write_text(before)
    options = ("--json", "result.json", "--broker", "redis://127.0.0.1:1/0")
    ended = shell.run("simulate", shell.write("scenario.toml", VALID), *options)
    assert ended.returncode == 2
    assert (result.read_text() if result.exists() else None) == before


@pytest.mark.parametrize("device", [False, True], ids=["FIFO", "device"])
def test_a_result_file_that_is_a_device_or_a_pipe(shell: Shell, device: bool) -> None:
    os.mkfifo(shell.folder / "pipe")
    file = "/dev/null" if device else "pipe"
    ended = shell.run("simulate", shell.write("s.toml", VALID), "--json", file)
    assert ended.returncode == 2
    _assert_one_clear_message(ended.stderr, ("--json", file, "is not a regular file"))
    _assert_nothing_is_recorded(shell)


def test_a_text_file_as_a_database(shell: Shell) -> None:
    shell.write("notes.txt", "This is not a database. " * 80)
    file = shell.write("scenario.toml", VALID)
    for command in (("simulate", file), ("report",), ("verify",), ("trace", "x", "0")):
        ended = shell.run(*command, "--database", "sqlite:///notes.txt")
        assert ended.returncode == 2, ended.stderr
        _assert_one_clear_message(ended.stderr, ("notes.txt",))


def test_a_state_folder_with_too_long_a_name(shell: Shell) -> None:
    file = shell.write("scenario.toml", VALID)
    for command in (("simulate", file), ("report",)):
        ended = shell.run(*command, settings={"SENDTRACE_HOME": "x" * 300})
        assert ended.returncode == 2, ended.stderr
        _assert_one_clear_message(ended.stderr, ())


@pytest.mark.parametrize(
    "arguments",
    [
        *[
            (),
            ("simulate",),
            ("nothing",),
            ("report", "--format", "xml"),
            ("trace", "spring-email"),
        ],
        *[("trace", "spring-email", "0", "--format", "csv"), ("verify", "--format", "csv")],
    ],
    ids=" ".join,
)
def test_wrong_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    ended = shell.run(*arguments)
    assert ended.returncode == 2
    assert "Usage: sendtrace" in ended.stderr + ended.stdout
    assert not shell.home.exists()


def test_an_audience_file_without_a_valid_row(shell: Shell) -> None:
    shell.write("customers.csv", "customer_id,ndnc\n,yes\n2,perhaps\n3,never\n")
    ended = shell.run("simulate", shell.write("scenario.toml", FROM_FILE))
    assert ended.returncode == 2
    [rejects] = shell.home.glob("runs/*/*.rejects.csv")
    for text in (
        "customers.csv: no row could be read as a customer, of 3 rows",
        "missing_id: 1 row, the first in line 2: missing customer_id",
        "wrong_value: 2 rows, the first in line 3: ndnc: got 'perhaps'",
        f"see {rejects}",
    ):
        assert text in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(rejects.read_text(encoding="utf-8").splitlines()) == 4
    assert shell.query_number("SELECT count(*) FROM messages") == 0
    assert "aborted" in shell.run("runs").stdout
