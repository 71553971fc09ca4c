"""Inspection of files of other systems: guesses, counts and the mapping file."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from simulator.audience.columns import COLUMNS, OPT_COLUMNS
from simulator.audience.dialect import guess_encoding, guess_separator
from simulator.audience.formats import AudienceFile, AudienceSection, load_mapping
from simulator.audience.headings import SYNONYMS, guess_columns
from simulator.audience.inspection import inspect_audience_file, is_own_format
from simulator.audience.mapping_file import format_mapping
from simulator.audience.problems import (
    PROBLEMS_BY_SLUG,
    MobileProblem,
    ProblemCounts,
    RejectCause,
    Repair,
)
from simulator.audience.reader import read_customers
from simulator.audience.row_parser import CustomerRecord
from simulator.audience.values import DateOrder
from tests.support.paths import SCENARIOS
from tracker.errors import UsageError

WESTERN = ("Müller", "Zoë", "José", "Straße", "São Paulo", "François", "Ødegård")
CENTRAL = ("Příliš", "žluťoučký", "Łódź", "Wałęsa", "Kraków")
CYRILLIC = ("Иван Петров", "Мария", "Москва")
JAPANESE = ("山田太郎", "鈴木花子", "東京都")

EXPORT = """\
Kunden-ID;E-Mail Adresse;Vorname;Mobile No.;Land;Newsletter;Gutschein gültig bis
1;anna@example.com;Jürgen;07700 900123;United Kingdom;ja;31/12/2030
2;zoe@example.com;Zoë;447700900124.0;UK;nein;01/02/2031
3;jose@example.com;José;4.477E+11;GBR;;03/04/2031
5;eve@example.com;Eve;;GB;vielleicht;
Kunden-ID;E-Mail Adresse;Vorname;Mobile No.;Land;Newsletter;Gutschein gültig bis
4;dora@example.com
"""


def write(folder: Path, content: str, encoding: str = "utf-8") -> Path:
    path = folder / "crm.csv"
    path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("names", "encoding", "guess"),
    [
        (WESTERN, "utf-8", "utf-8"),
        (WESTERN, "utf-8-sig", "utf-8"),
        (WESTERN, "utf-16", "utf-16"),
        (WESTERN, "utf-16-le", "utf-16-le"),
        (WESTERN, "utf-16-be", "utf-16-be"),
        (WESTERN, "cp1252", "windows-1252"),
        (("Zoë",), "cp1252", "windows-1252"),
        (("5 €", "L’Oréal – “Paris”"), "cp1252", "windows-1252"),
        (("Jürgen", "5 €"), "iso-8859-15", "iso-8859-15"),
        (("sœur", "René"), "iso-8859-15", "iso-8859-15"),
        (("Milch, ½l", "René"), "cp1252", "windows-1252"),
        (CENTRAL, "cp1250", "windows-1250"),
        (CYRILLIC, "cp1251", "windows-1251"),
        (CYRILLIC, "koi8-r", "koi8_r"),
        (("Γιώργος Παπαδόπουλος", "Αθήνα", "Μαρία"), "cp1253", "windows-1253"),
        (("김철수", "이영희", "서울"), "cp949", "cp949"),
        (JAPANESE, "shift_jis", "cp932"),
        (("张伟", "王芳", "北京市"), "gb18030", "gb18030"),
        (("ASCII",), "ascii", "utf-8"),
        ((), "ascii", "utf-8"),
    ],
)
@pytest.mark.parametrize("repetitions", [1, 200])
def test_encodings(
    tmp_path: Path, names: tuple[str, ...], encoding: str, guess: str, repetitions: int
) -> None:
    rows = (f"{number};{name};x@example.com\n" for number, name in enumerate(names * repetitions))
    assert guess_encoding(write(tmp_path, "id;name;email\n" + "".join(rows), encoding)) == guess


def test_a_few_broken_rows_do_not_hide_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "crm.csv"
    path.write_bytes("Zoë,Jürgen\n".encode() * 100 + b"Zo\xeb\n")
    assert guess_encoding(path) == "utf-8"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(separator: str) -> None:
    rows = (
        ("id", "name", "note"),
        ("1", "Leeds, Headrow", "a; b"),
        ("2", "York", "1,5"),
        ("3", "Bath, The Lanes", ""),
        ("4",),
    )
    assert guess_separator([separator.join(row) + "\n" for row in rows]) == separator


def test_a_file_with_one_column_has_commas() -> None:
    assert guess_separator(["email\n", "a@example.com\n"]) == ","


@pytest.mark.parametrize(
    ("heading", "column"),
    [
        ("Email Address", "email"),
        ("E-Mail", "email"),
        ("EMAIL_ID", "email"),
        ("Phone", "mobile"),
        ("Mobile No.", "mobile"),
        ("Téléphone portable", "mobile"),
        ("Opt-out", "unsubscribed"),
        ("Email Opt Out", "unsubscribed_email"),
        ("SMS Consent", "subscribed_sms"),
        ("Country/Region", "region"),
        ("Customer ID", "customer_id"),
        ("customerId", "customer_id"),
        ("DND", "ndnc"),
        ("Voucher Code", "coupon_id"),
        ("Newsletter abgemeldet", "unsubscribed_email"),
        ("Désinscrit (SMS)", "unsubscribed_sms"),
        ("Ne plus contacter", "unsubscribed"),
        ("मोबाइल नंबर", "mobile"),
        ("ईमेल", "email"),
        ("Shoe size", None),
        ("", None),
    ],
)
def test_headings(heading: str, column: str | None) -> None:
    assert guess_columns([heading]).get(heading) == column


def test_the_most_telling_heading_gets_the_column() -> None:
    headings = ["Phone", "Mobile", "Home Phone", "ID", "Customer No"]
    assert guess_columns(headings) == {"Mobile": "mobile", "Customer No": "customer_id"}


def test_every_column_has_synonyms() -> None:
    assert set(SYNONYMS) == {*COLUMNS, *OPT_COLUMNS}


def test_an_export_is_inspected(tmp_path: Path) -> None:
    inspection = inspect_audience_file(write(tmp_path, EXPORT, "cp1252"))
    read = inspection.format
    assert (read.encoding, read.separator) == ("windows-1252", ";")
    assert read.columns == {
        "Kunden-ID": "customer_id",
        "E-Mail Adresse": "email",
        "Vorname": "ignore",
        "Mobile No.": "mobile",
        "Land": "region",
        "Newsletter": "subscribed",
        "Gutschein gültig bis": "coupon_expires",
    }
    assert read.date_order is DateOrder.DAY_FIRST
    assert inspection.values["Land"].samples == ["United Kingdom", "UK", "GBR"]
    assert inspection.values["Vorname"].samples == ["Jürgen", "Zoë", "José"]
    assert inspection.counts.by_problem == {
        Repair.MOBILE: 1,
        Repair.REPEATED_HEADER: 1,
        Repair.MISSING_CELLS: 1,
        MobileProblem.SPREADSHEET: 1,
        RejectCause.WRONG_VALUE: 1,
    }
    first_messages = inspection.counts.first_messages
    assert "subscribed: got 'vielleicht'" in first_messages[RejectCause.WRONG_VALUE]
    assert inspection.notes == ["Newsletter: 2 empty cells, read as no consent"]
    assert not is_own_format(inspection.format)


def test_a_row_that_is_left_out_has_no_empty_cells(tmp_path: Path) -> None:
    content = "Id,Newsletter\n1,yes\n2,no,surplus\n3\n4,\n"
    notes = inspect_audience_file(write(tmp_path, content)).notes
    assert "Newsletter: 2 empty cells, read as no consent" in notes


@pytest.mark.parametrize("other_columns", ["ignore", "field"])
def test_the_written_mapping_reads_the_file_as_inspected(
    tmp_path: Path, other_columns: str
) -> None:
    heading = 'Say "hi" \\ = # ü'
    content = EXPORT.replace("Vorname", f'"{heading.replace(chr(34), chr(34) * 2)}"')
    path = write(tmp_path, content, "cp1252")
    inspection = inspect_audience_file(path, region="IN", other_columns=other_columns)
    mapping = tmp_path / "crm.mapping.toml"
    mapping.write_text(format_mapping(inspection, mapping.name), encoding="utf-8")
    loaded = load_mapping(mapping)
    assert (loaded.columns, loaded.region) == (inspection.format.columns, "IN")
    assert heading in (loaded.columns or {})
    counts = ProblemCounts()
    section = AudienceSection(file=path.name, mapping=mapping.name)
    rows = list(read_customers(AudienceFile.in_folder(tmp_path, section), counts))
    assert counts.by_problem == inspection.counts.by_problem
    assert sum(isinstance(row, CustomerRecord) for row in rows) == inspection.counts.customers
    first = rows[0]
    assert isinstance(first, CustomerRecord)
    assert ("Jürgen" in first.custom) is (other_columns == "field")


def test_commented_keys_of_a_mapping_are_valid(tmp_path: Path) -> None:
    path = write(tmp_path, "Id,Valid until\n1,03/04/2031\n")
    text = format_mapping(inspect_audience_file(path), "crm.mapping.toml")
    head, columns = text.split("[columns]")
    keys = [line for line in head.splitlines() if line.startswith("# ") and " = " in line]
    uncommented = "\n".join(line[2:] for line in keys if not line.startswith("# audience"))
    settings = tomllib.loads(f"{uncommented}\n[columns]{columns}")
    assert {"region", "date_order", "numbers", "max_rejects"} <= settings.keys()
    (tmp_path / "all.toml").write_text(f"{uncommented}\n[columns]{columns}")
    assert load_mapping(tmp_path / "all.toml").date_order is DateOrder.DAY_FIRST


@pytest.mark.parametrize(
    ("dates", "order", "note"),
    [
        (("31/12/2030", "03/04/2031"), DateOrder.DAY_FIRST, None),
        (("12/31/2030", "03/04/2031"), DateOrder.MONTH_FIRST, None),
        (("2030-12-31", "05/05/2031"), None, None),
        (("03/04/2031", "04/05/2031"), None, "Valid until: 2 ambiguous dates, because no date"),
        (("31/12/2030", "12/31/2030"), None, "dates contradict each other (1 day_first and 1 mon"),
    ],
)
def test_the_order_of_dates(
    tmp_path: Path, dates: tuple[str, ...], order: DateOrder | None, note: str | None
) -> None:
    rows = "".join(f"{number},{text}\n" for number, text in enumerate(dates))
    inspection = inspect_audience_file(write(tmp_path, f"email,Valid until\n{rows}"))
    assert inspection.format.date_order is order
    notes = [text for text in inspection.notes if "Valid until" in text]
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]


def test_another_column_may_tell_the_order_of_dates(tmp_path: Path) -> None:
    path = write(tmp_path, "email,Birthday,Valid until\na@example.com,31/12/1980,03/04/2031\n")
    inspection = inspect_audience_file(path)
    assert inspection.format.date_order is DateOrder.DAY_FIRST
    assert not [text for text in inspection.notes if "Valid until" in text]


def test_missing_ids_addresses_and_countries_are_noted(tmp_path: Path) -> None:
    notes = inspect_audience_file(write(tmp_path, "Mobile\n07700 900123\n")).notes
    assert "no column is a customer_id" in notes[0]
    assert "1 mobile number without a country; --region XX" in notes[1]
    path = write(tmp_path, "Mobile\n07700 900123\n")
    assert len(inspect_audience_file(path, region="GB").notes) == 1
    assert "no message can be sent" in inspect_audience_file(write(tmp_path, "Id\n1\n")).notes[0]


def test_unknown_columns_with_flags_are_noted(tmp_path: Path) -> None:
    content = "Id,email,Nie wieder,Size,Empty\n1,a@example.com,ja,4,\n2,b@example.com,,1,\n"
    [note] = inspect_audience_file(write(tmp_path, content)).notes
    assert note == "Nie wieder: yes or no, with an unknown meaning; it may say who opted out"


@pytest.mark.parametrize(
    ("lines_above", "line"),
    [("Contact;;Consent;\n", 2), ("sep=;\nExport of May;;;\n;;;\n", 4), ("", None)],
)
def test_lines_above_the_header_are_noted(
    tmp_path: Path, lines_above: str, line: int | None
) -> None:
    content = lines_above + "Id;Email;Opt-out;Mobile\n1;a@example.com;no;\n"
    notes = inspect_audience_file(write(tmp_path, content)).notes
    expected = f"line {line} looks like the header; remove the lines above it"
    assert [note for note in notes if "header" in note] == ([expected] if line else [])


def test_values_that_are_not_dates_or_countries_are_noted(tmp_path: Path) -> None:
    content = "email,Valid until,Country\na@example.com,soon,Narnia\nb@example.com,31/12/2030,UK\n"
    assert inspect_audience_file(write(tmp_path, content)).notes[1:] == [
        "Valid until: 1 value without a readable date, such as 'soon'",
        "Country: 1 value without a readable country, such as 'Narnia'",
    ]


def test_our_own_files_need_no_mapping(tmp_path: Path) -> None:
    inspection = inspect_audience_file(SCENARIOS / "customers.csv")
    assert inspection.counts.customers == 1_976
    assert is_own_format(inspection.format)
    path = write(tmp_path, "customer_id,email\n1,a@example.com\n")
    assert is_own_format(inspect_audience_file(path).format)


def test_the_shipped_export_and_its_mapping() -> None:
    """Each problem occurs in it, except for cells that are too long."""
    inspection = inspect_audience_file(
        SCENARIOS / "crm" / "crm.csv", region="GB", other_columns="field"
    )
    mapping = SCENARIOS / "crm" / "crm.mapping.toml"
    assert format_mapping(inspection, mapping.name) == mapping.read_text(encoding="utf-8")
    counts = inspection.counts
    assert (counts.rows, counts.customers) == (5_000, 4_882)
    absent = {RejectCause.TOO_LONG, MobileProblem.NO_COUNTRY}
    assert {*PROBLEMS_BY_SLUG.values()} - counts.by_problem.keys() == absent


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\n", b"\xff\xfe", b'"a\n'])
def test_files_without_a_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "crm.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"crm\.csv: can't (be read|read the header)"):
        inspect_audience_file(path)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0"])
def test_a_workbook_is_refused(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "crm.xlsx"
    path.write_bytes(start + bytes(range(256)))
    with pytest.raises(UsageError, match="got a workbook or an archive; expected CSV"):
        inspect_audience_file(path)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.csv"):
        with pytest.raises(UsageError, match="can't be read"):
            inspect_audience_file(path)


@given(
    body=st.binary(max_size=400) | st.text('ab",;\t|\n\r\0 é\u200b=+-1/.').map(str.encode),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"sep=;\n"]),
)
@example(body=b"a,b\n\x80,\xff", mark=b"")
@example(body=b":\nx", mark=b"")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_file_breaks_the_inspection(tmp_path: Path, body: bytes, mark: bytes) -> None:
    path = tmp_path / "crm.csv"
    path.write_bytes(mark + body)
    try:
        inspection = inspect_audience_file(path, other_columns="field")
    except UsageError:
        return
    mapping = tmp_path / "crm.mapping.toml"
    mapping.write_text(format_mapping(inspection, mapping.name), encoding="utf-8")
    assert load_mapping(mapping).columns == inspection.format.columns
    assert inspection.counts.rows == inspection.counts.customers + inspection.counts.rejects
