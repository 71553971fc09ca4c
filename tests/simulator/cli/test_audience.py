"""The command `sendtrace audience inspect`."""

import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simulator.cli.main import app

CONTENT = "Kunden-ID;Handy;Größe\n1;07700 900123;42\n2;\x1b[31m12;43\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "crm.csv"
    path.write_bytes(CONTENT.encode("cp1252"))
    return path


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["audience", "inspect", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_report_shows_mapping_samples_and_problems(file: Path) -> None:
    code, out, err = invoke(file, "--region", "GB")
    assert (code, err) == (0, "")
    assert out.startswith(f"{file}: 2 rows, 2 customers; windows-1252, semicolon\n")
    lines = [line.split() for line in out.splitlines()]
    assert ["Handy", "mobile", "07700", "900123;", "[31m12"] in lines
    assert ["Größe", "ignore", "42;", "43"] in lines
    assert [line[:3] for line in lines if line[:1] == ["text"]] == [["text", "1", "3"]]
    assert "\x1b" not in out


def test_the_mapping_is_written(file: Path) -> None:
    mapping = file.with_name("crm.mapping.toml")
    code, _, err = invoke(file, "--write", mapping, "--other-columns", "field")
    assert (code, err) == (0, "")
    assert tomllib.loads(mapping.read_text("utf-8"))["columns"] == {
        "Kunden-ID": "customer_id",
        "Handy": "mobile",
        "Größe": "field:Größe",
    }


def test_the_mapping_can_be_piped(file: Path) -> None:
    code, out, err = invoke(file, "--write", "-")
    assert code == 0
    assert tomllib.loads(out)["separator"] == ";"
    assert "2 customers" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--encoding", "utf-9"), "--encoding: got 'utf-9'; expected an encoding"),
        (("--separator", "colon"), "--separator: got 'colon'; expected"),
        (("--region", "Atlantis"), "--region: got 'Atlantis'; expected a country code"),
        (("--write", "FILE"), "got the input file; expected another file"),
        (("--write", "nowhere/x.toml"), "can't be written"),
    ],
)
def test_wrong_options(file: Path, arguments: tuple[str, ...], message: str) -> None:
    given = [str(file) if argument == "FILE" else argument for argument in arguments]
    code, out, err = invoke(file, *given)
    assert (code, out) == (2, "")
    assert message in err
    assert file.read_bytes() == CONTENT.encode("cp1252")


def test_a_missing_file(tmp_path: Path) -> None:
    code, out, err = invoke(tmp_path / "nowhere.csv")
    assert (code, out) == (2, "")
    assert "nowhere.csv: can't be read" in err


def test_given_options_replace_guesses(file: Path) -> None:
    _, out, _ = invoke(file, "--encoding", "latin-1", "--separator", "comma")
    assert "latin-1, comma" in out.splitlines()[0]
