"""The commands `sendtrace suppressions …`, on both databases."""

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulator.cli.main import app
from simulator.suppressions import imports
from tracker.settings import Settings

ORGANIZATION = ("--organization", "Acme Retail")

HEADER = "address,channel,reason,count,source,since,expires\n"
EXPORT = HEADER + "a@b.example,email,hard_bounced,1,,,\n"


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the commands use the database of the test."""
    monkeypatch.setenv("SENDTRACE_HOME", str(settings.home))
    if settings.database_url:
        monkeypatch.setenv("SENDTRACE_DATABASE_URL", settings.database_url)


def invoke(*arguments: object, expected: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["suppressions", *map(str, arguments)])
    assert result.exit_code == expected, result.output
    return result.stdout, result.stderr


def read_csv(*arguments: object) -> list[dict[str, str]]:
    out, _ = invoke("list", "--format", "csv", *arguments)
    return [*csv.DictReader(io.StringIO(out))]


def write(tmp_path: Path, content: str | bytes, name: str = "list.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_entries_are_added_once_listed_and_removed() -> None:
    added = ("ana@Shop.example", "ana@shop.example", "+447700900123")
    assert invoke("add", *added, *ORGANIZATION)[0] == "Acme Retail: 2 added, 0 already there\n"
    assert invoke("add", *added)[0] == "Acme Retail: 0 added, 2 already there\n"
    out, _ = invoke("list")
    header, *lines = [line.split() for line in out.splitlines()]
    assert header == ["address", "channel", "reason", "count", "source", "since", "expires"]
    assert [line[:5] for line in lines] == [
        ["ana@shop.example", "email", "unsubscribed", "1", "cli"],
        ["+447700900123", "sms", "unsubscribed", "1", "cli"],
    ]
    assert invoke("remove", "ANA@shop.example")[0] == "Acme Retail: 1 entry removed\n"
    assert invoke("remove", "ANA@shop.example")[0] == "Acme Retail: 0 entries removed\n"
    assert [row["address"] for row in read_csv()] == ["'+447700900123"]


def test_the_list_is_filtered_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENDTRACE_TIMEZONE", "Asia/Kolkata")
    invoke("add", "ana@shop.example", "+447700900123", *ORGANIZATION)
    invoke("add", "bo@shop.example", "--reason", "hard_bounced", "--count", 2)
    invoke("add", "+447700900123", "--reason", "ndnc", "--expires", "2027-01-31")
    [ndnc] = json.loads(invoke("list", "--reason", "ndnc", "--format", "json")[0])
    assert (ndnc["address"], ndnc["expires"]) == ("+447700900123", "2027-01-31T18:30:00+00:00")
    assert ndnc["organization"] == "Acme Retail"
    [bounced] = read_csv("bo@shop.example")
    assert (bounced["reason"], bounced["count"]) == ("hard_bounced", "2")
    assert len(read_csv("--channel", "sms")) == 2
    out, err = invoke("list", "--limit", 1, "--format", "csv")
    assert len(out.splitlines()) == 2
    assert err == "the first 1 entry; see --limit\n"


def test_an_export_can_be_imported(tmp_path: Path) -> None:
    invoke("add", "ana@BÜCHER.example", "+447700900123", *ORGANIZATION, "--expires", "2027-01-31")
    invoke("add", "bo@shop.example", "--reason", "soft_bounced", "--count", 3)
    exported, _ = invoke("export")
    assert not any(line.startswith(("=", "+", "-", "@")) for line in exported.splitlines())
    file = write(tmp_path, exported)
    out, _ = invoke("import", file, "--organization", "Beta")
    assert out == "Beta: 3 added, 0 already there, 0 rejected\n"
    assert invoke("export", "--organization", "Beta")[0] == exported
    out, _ = invoke("import", file, "--organization", "Beta")
    assert out == "Beta: 0 added, 3 already there, 0 rejected\n"
    only_sms, _ = invoke("export", "--organization", "Beta", "--channel", "sms")
    assert len(only_sms.splitlines()) == 2


def test_a_source_that_looks_like_a_formula_stays_text(tmp_path: Path) -> None:
    file = write(tmp_path, "email\nana@shop.example\n", "=cmd.csv")
    invoke("import", file, "--as", "spam", *ORGANIZATION)
    exported, _ = invoke("export")
    assert ",'=cmd.csv," in exported
    invoke("import", write(tmp_path, exported), "--organization", "Beta")
    assert invoke("export", "--organization", "Beta")[0] == exported


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        pytest.param(
            "07700900123\n07700900124\n\n07700900123\n",
            ("--as", "ndnc", "--region", "GB"),
            ["+447700900123", "+447700900124"],
            id="numbers without a header",
        ),
        pytest.param(
            "Kunde;E-Mail-Adresse\n1;Ana@B\xdcCHER.example\n".encode("cp1252"),
            ("--as", "unsubscribed", "--column", "e-mail-adresse"),
            ["ana@xn--bcher-kva.example"],
            id="a column of another encoding",
        ),
        pytest.param(
            "email\tphone\nana@shop.example\t+447700900123\n".encode("utf-16"),
            ("--as", "unsubscribed", "--channel", "sms"),
            ["+447700900123"],
            id="one of two columns, UTF-16",
        ),
        pytest.param(
            "Email\nana@shop.example\nEmail\nbo@shop.example\n",
            ("--as", "hard_bounced"),
            ["ana@shop.example", "bo@shop.example"],
            id="a repeated header",
        ),
        pytest.param(
            "sep=;\rana@shop.example;x\rbo@shop.example;y\r".encode("utf-16"),
            ("--as", "unsubscribed"),
            ["ana@shop.example", "bo@shop.example"],
            id="a line for Excel, and no header",
        ),
        pytest.param(
            "who\nana@shop.example\n+447700900123\n",
            ("--as", "spam", "--column", "who"),
            ["ana@shop.example", "+447700900123"],
            id="both channels in one column",
        ),
    ],
)
def test_files_of_others_are_imported(
    tmp_path: Path, content: str | bytes, options: tuple[str, ...], expected: list[str]
) -> None:
    file = write(tmp_path, content)
    invoke("import", file, *options, *ORGANIZATION)
    assert [row["address"].removeprefix("'") for row in read_csv()] == expected
    assert {row["source"] for row in read_csv()} == {"list.csv"}
    again, _ = invoke("import", file, *options)
    assert "0 added" in again
    assert "0 rejected" in again


def test_rows_that_cannot_be_used_are_counted_with_their_first_line(tmp_path: Path) -> None:
    rows = (
        "email\nana@shop.example\nANA@shop.example\nnobody\n\x1b[31m@\n"
        'bounce@simulator.example\n=cmd|"x"\n"open\n'
    )
    out, err = invoke("import", write(tmp_path, rows), "--as", "unsubscribed", *ORGANIZATION)
    assert out == "Acme Retail: 1 added, 1 already there, 5 rejected\n"
    assert [line.partition(": got")[0] for line in err.splitlines()] == [
        "  malformed: 3 rows, the first in line 4",
        "  forced_outcome: 1 row, the first in line 6",
        "  unbalanced_quote: 1 row, the first in line 8: unbalanced quote; expected a quoted cell"
        " to end in a quote, and quotes in it doubled",
    ]
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("email\nnobody\n", ("--as", "spam"), "none of 1 row can be used"),
        ("email\n", ("--as", "spam"), "no rows"),
        ("", ("--as", "spam"), "its first line is empty"),
        ("name\nana\n", ("--as", "spam"), "no column of addresses in name"),
        ("email,phone\na@b.example,1\n", ("--as", "spam"), "expected --channel email or sms"),
        ("email\na@b.example\n", ("--as", "spam", "--column", "mail"), "did you mean email?"),
        ("email\na@b.example\n", (), "expected --as REASON"),
        ("email\na@b.example\n", ("--as", "ndnc", "--channel", "email"), "mobile numbers only"),
        (b"PK\x03\x04", ("--as", "spam"), "got a workbook"),
        ("email\na@b.example\n", ("--as", "spam", "--region", "Atlantis"), "--region"),
        ("email\na@b.example\n", ("--as", "spam", "--encoding", "utf-9"), "--encoding"),
        ("email\na@b.example\n", ("--as", "spam", "--expires", "soon"), "--expires soon"),
        (EXPORT, ("--channel", "sms"), "--channel: expected with --as only"),
        (EXPORT, ("--column", "address"), "--column: expected with --as only"),
        (EXPORT, ("--region", "IN"), "--region: expected with --as only"),
        (EXPORT, ("--expires", "2027-01-31"), "--expires: expected with --as only"),
        (EXPORT, ("--count", "2"), "--count: expected with --as only"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(
    tmp_path: Path, content: str | bytes, options: tuple[str, ...], message: str
) -> None:
    file = write(tmp_path, content)
    _, err = invoke("import", file, *options, *ORGANIZATION, expected=2)
    assert message in err
    invoke("list", *ORGANIZATION, expected=2)


@pytest.mark.parametrize("count", ["0", "-1", "1.5", "2147483647", "9" * 30])
def test_a_count_to_which_no_run_can_add_is_rejected(tmp_path: Path, count: str) -> None:
    rows = f"a@b.example,email,hard_bounced,{count},,,\nc@b.example,email,spam,1,,,\n"
    out, err = invoke("import", write(tmp_path, HEADER + rows), *ORGANIZATION)
    assert out == "Acme Retail: 1 added, 0 already there, 1 rejected\n"
    assert "wrong_value: 1 row, the first in line 2: count: got " in err


def test_a_large_file_is_imported_in_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "BATCH_ENTRIES", 7)
    numbers = [f"+4477009{number:05}" for number in range(100, 150)]
    file = write(tmp_path, "\n".join(["mobile", *numbers, *numbers[:5]]))
    out, _ = invoke("import", file, "--as", "ndnc", *ORGANIZATION)
    assert out == "Acme Retail: 50 added, 5 already there, 0 rejected\n"
    assert len(read_csv()) == 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "nobody@", *ORGANIZATION), "got 'nobody@'; expected an email address"),
        (("add", "a@b.example", "--reason", "ndnc", *ORGANIZATION), "mobile numbers only"),
        (("add", "a@b.example"), "--organization: missing; expected the name"),
        (("add", "a@b.example", "--reason", "hard_bounced", "--count", "2147483647"), "--count"),
        (("add", "a@b.example", "--organization", "x" * 201), "at most 200"),
        (("list",), "--organization: missing"),
        (("remove", "a@b.example", *ORGANIZATION), "Acme Retail: keeps no list"),
        (("export", *ORGANIZATION), "Acme Retail: keeps no list"),
    ],
)
def test_wrong_usage_changes_nothing(arguments: tuple[str, ...], message: str) -> None:
    _, err = invoke(*arguments, expected=2)
    assert message in err
    assert "--organization: missing" in invoke("list", expected=2)[1]


def test_several_lists_need_a_name() -> None:
    invoke("add", "a@b.example", "--organization", "Acme")
    invoke("add", "a@b.example", "--organization", "Beta")
    assert "expected one of Acme, Beta" in invoke("list", expected=2)[1]
    assert "did you mean Beta?" in invoke("list", "--organization", "Bta", expected=2)[1]
