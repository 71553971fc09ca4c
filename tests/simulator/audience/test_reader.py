"""An audience file: every rule of its header, its rows and its mobile numbers."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from simulator.audience.formats import AudienceFile, AudienceSection
from simulator.audience.problems import (
    Duplicate,
    MobileProblem,
    Problem,
    ProblemCounts,
    RejectCause,
    Repair,
)
from simulator.audience.reader import RejectedRow, read_customers
from simulator.audience.row_parser import MAX_ID_CHARACTERS, CustomerRecord
from simulator.audience.rows import MAX_CELL_CHARACTERS, MAX_LINE_CHARACTERS, MAX_ROW_LINES
from tests.support.customers import PLAIN
from tests.support.paths import SCENARIOS
from tracker.errors import UsageError
from tracker.status import Channel

SHIPPED = SCENARIOS / "customers.csv"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audience.csv"


def own(path: Path) -> AudienceFile:
    """Return a file with our own columns."""
    return AudienceFile.in_folder(path.parent, AudienceSection(file=path.name))


def rows_of(
    path: Path, content: str | bytes, counts: ProblemCounts | None = None
) -> list[CustomerRecord | RejectedRow]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_customers(own(path), counts or ProblemCounts()))


def ids(rows: Sequence[CustomerRecord | RejectedRow]) -> list[str]:
    return [row.customer_id for row in rows if isinstance(row, CustomerRecord)]


def rejects(rows: Sequence[CustomerRecord | RejectedRow]) -> list[RejectedRow]:
    return [row for row in rows if isinstance(row, RejectedRow)]


def only_customer(path: Path, columns: str, cells: str) -> CustomerRecord:
    (row,) = rows_of(path, f"customer_id,{columns}\nC1,{cells}\n")
    assert isinstance(row, CustomerRecord)
    return row


def only_reject(path: Path, columns: str, cells: str) -> RejectedRow:
    (row,) = rows_of(path, f"customer_id,{columns}\nC1,{cells}\n")
    assert isinstance(row, RejectedRow)
    return row


def test_a_row_is_imported(path: Path) -> None:
    header = (
        "customer_id,email,mobile,region,loyalty_member,unsubscribed,ndnc,hard_bounces,"
        "soft_bounces,last_store,profile,coupon_id,coupon_expires,coupon_redeemed,"
        "tag:language,field:Birth Day\n"
    )
    row = (
        'C1,ana@example.com,07700 900123,GB,yes,sms,1,1,2,"Leeds, ""The Light""",Zoë,'
        "CP-9,2031-01-31,TRUE,pt,1 May\n"
    )
    assert rows_of(path, header + row) == [
        PLAIN._replace(
            email="ana@example.com",
            mobile="07700 900123",
            mobile_e164="+447700900123",
            loyalty_member=True,
            unsubscribed_sms=True,
            ndnc=True,
            hard_bounces_email=1,
            soft_bounces_email=2,
            hard_bounces_sms=1,
            soft_bounces_sms=2,
            last_store='Leeds, "The Light"',
            profile="Zoë",
            coupon_id="CP-9",
            coupon_expires="2031-01-31",
            coupon_redeemed=True,
            custom='{"field:Birth Day": "1 May", "field:region": "GB", "tag:language": "pt"}',
            email_key="ana@example.com",
            mobile_key="+447700900123",
        )
    ]


@pytest.mark.parametrize(
    ("email", "mobile", "keys"),
    [
        ("Ana+x@EXAMPLE.com", "07700 900123", ("ana+x@example.com", "+447700900123")),
        ("ana@example", "12", (None, None)),
        ("Bounce+7@simulator.example", "+61491570156", (None, None)),
        ("ana@simulator.example", "+61491570006", ("ana@simulator.example", "+61491570006")),
        ("", "", (None, None)),
    ],
)
def test_addresses_and_numbers_have_keys_unless_they_are_never_compared(
    path: Path, email: str, mobile: str, keys: tuple[str | None, str | None]
) -> None:
    [customer] = rows_of(path, f"customer_id,email,mobile,region\nC1,{email},{mobile},GB\n")
    assert isinstance(customer, CustomerRecord)
    assert (customer.email_key, customer.mobile_key) == keys


def test_rows_with_the_address_of_an_earlier_row_are_counted(path: Path) -> None:
    counts = ProblemCounts()
    rows = rows_of(
        path,
        "customer_id,email,mobile\n"
        "A1,ana@example.com,+447700900123\n"
        "A2,ANA@example.com,\n"
        "A3,ana@Example.com,+44 7700 900123\n"
        "A4,bounce@simulator.example,+61491570156\n"
        "A5,bounce@simulator.example,+61491570156\n"
        "A6,ana,12\n"
        "A7,ana,12\n",
        counts,
    )
    assert len(rows) == counts.customers == 7
    duplicates = {problem: counts.by_problem[problem] for problem in Duplicate}
    assert duplicates == {Duplicate.EMAIL: 2, Duplicate.MOBILE: 1}
    assert counts.first_lines[Duplicate.EMAIL] == 3


@pytest.mark.parametrize(
    "content",
    [
        "customer_id\nC1\n",
        "customer_id\nC1",
        "customer_id\r\nC1\r\n",
        "customer_id\rC1\r",
        "customer_id\r\nC1\n",
        "\ufeffcustomer_id\nC1\n",
        '\ufeff"customer_id"\n"C1"\n',
        " CUSTOMER_ID \n  C1\t\n",
        "customer_id\n\n \t\nC1\n\r\n\n",
    ],
)
def test_line_ends_byte_order_mark_space_and_blank_lines(path: Path, content: str) -> None:
    assert rows_of(path, content) == [PLAIN]


def test_blank_cells_are_absent(path: Path) -> None:
    header = (
        "customer_id,email,mobile,region,loyalty_member,unsubscribed,ndnc,hard_bounces,"
        "soft_bounces,last_store,profile,coupon_id,coupon_expires,coupon_redeemed,tag:a,field:b\n"
    )
    assert rows_of(path, f"{header}C1{', ' * 15}\n") == [PLAIN]


@pytest.mark.parametrize("column", ["loyalty_member", "ndnc", "coupon_redeemed"])
@pytest.mark.parametrize(
    ("cell", "value"),
    [
        *((text, True) for text in ("yes", "YES", "Yes", "true", "True", "TRUE", "1", " yes ")),
        *((text, False) for text in ("no", "NO", "No", "false", "False", "FALSE", "0", "", " ")),
    ],
)
def test_booleans(path: Path, column: str, cell: str, value: bool) -> None:
    assert getattr(only_customer(path, column, cell), column) is value


@pytest.mark.parametrize(
    ("cell", "email", "sms"),
    [
        ("", False, False),
        ("email", True, False),
        ("SMS", False, True),
        ("Both", True, True),
    ],
)
def test_unsubscribed(path: Path, cell: str, email: bool, sms: bool) -> None:
    customer = only_customer(path, "unsubscribed", cell)
    assert (customer.unsubscribed_email, customer.unsubscribed_sms) == (email, sms)


@pytest.mark.parametrize("column", ["hard_bounces", "soft_bounces"])
@pytest.mark.parametrize(
    ("cell", "count"), [("", 0), ("0", 0), ("007", 7), (" 3 ", 3), ("999999999", 999_999_999)]
)
def test_bounces_count_for_both_channels(path: Path, column: str, cell: str, count: int) -> None:
    customer = only_customer(path, column, cell)
    by_channel = [getattr(customer, f"{column}_{channel}") for channel in Channel]
    assert by_channel == [count, count]


@pytest.mark.parametrize(
    "address",
    ["ana@@example", "no-at-sign", "@example.com", "a b@example.com", "jürgen@example.de"],
)
def test_malformed_addresses_are_kept(path: Path, address: str) -> None:
    assert only_customer(path, "email", address).email == address


@pytest.mark.parametrize(
    ("mobile", "region", "e164"),
    [
        ("07700 900123", "GB", "+447700900123"),
        ("07700 900123", " gb ", "+447700900123"),
        ("(07700) 900-123", "GB", "+447700900123"),
        ("0044 7700 900123", "GB", "+447700900123"),
        ("011 44 7700 900123", "US", "+447700900123"),
        ("+44 7700 900123", "", "+447700900123"),
        ("+44 (0)7700 900123", "US", "+447700900123"),
        ("+44 7700 900123", "XX", "+447700900123"),
        ("0044 7700 900123", "", "+447700900123"),
        ("00447700900123", "XX", "+447700900123"),
        ("(202) 555-0143", "US", "+12025550143"),
        ("0491 570 006", "AU", "+61491570006"),
        ("07700 900123", "", None),
        ("07700 900123", "XX", None),
        ("07700 900123", "UK", None),
        ("12", "GB", None),
        ("00", "", None),
        ("+", "GB", None),
        ("7.7009E+09", "GB", None),
        ("0" * 300, "GB", None),
        ("+49 1512 34567890123", "", None),  # possible in Germany, but 17 digits
        ("ana@example.com", "GB", None),
    ],
)
def test_mobile_numbers(path: Path, mobile: str, region: str, e164: str | None) -> None:
    customer = only_customer(path, "mobile,region", f"{mobile},{region}")
    assert (customer.mobile, customer.mobile_e164) == (mobile, e164)


def test_a_mobile_number_without_a_region_column(path: Path) -> None:
    assert only_customer(path, "mobile", "+447700900123").mobile_e164 == "+447700900123"
    assert only_customer(path, "mobile", "07700900123").mobile_e164 is None


def test_a_field_named_region_has_precedence_for_rules(path: Path) -> None:
    custom = only_customer(path, "region,field:region", "GB,IE").custom
    assert json.loads(custom) == {"field:region": "IE"}


def test_custom_data_keeps_names_and_leaves_out_blanks(path: Path) -> None:
    columns = "tag:b,TAG:B,Tag:Field:C,Field: spaced,field:a:b,tag:none,field:quote"
    custom = only_customer(path, columns, 'x,y,w,ü, z ,  ,"say ""hi"""').custom
    assert json.loads(custom) == {
        "tag:b": "x",
        "tag:B": "y",
        "tag:Field:C": "w",
        "field: spaced": "ü",
        "field:a:b": "z",
        "field:quote": 'say "hi"',
    }
    assert list(json.loads(custom)) == sorted(json.loads(custom))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quoted_line_ends_belong_to_the_cell(path: Path, end: str) -> None:
    content = (
        f'customer_id,last_store{end}C1,"Leeds{end}{end}The ""Light"""{end}C2,York{end}C2,{end}'
    )
    one, two, duplicate = rows_of(path, content)
    assert isinstance(one, CustomerRecord)
    assert one.last_store == f'Leeds{end}{end}The "Light"'
    assert ids([two]) == ["C2"]
    assert duplicate == RejectedRow(
        6, RejectCause.DUPLICATE_ID, "duplicate customer_id; same as in line 5", "C2,"
    )


@pytest.mark.parametrize(
    ("columns", "cells", "cause"),
    [
        ("email", "a@example.com,x", "got 3 cells; expected 2, as in the header"),
        ("ndnc", "maybe", "ndnc: got 'maybe'; expected yes, no, true, false, 1, 0 or nothing"),
        ("ndnc", "y", "ndnc: got 'y'; expected yes"),
        ("loyalty_member", "2", "loyalty_member: got '2'; expected yes"),
        ("coupon_redeemed", "01", "coupon_redeemed: got '01'; expected yes"),
        ("unsubscribed", "yes", "unsubscribed: got 'yes'; expected email, sms, both or nothing"),
        ("hard_bounces", "-1", "hard_bounces: got '-1'; expected a whole number"),
        ("soft_bounces", "1.5", "soft_bounces: got '1.5'; expected a whole number"),
        ("soft_bounces", "two", "soft_bounces: got 'two'; expected a whole number"),
        ("soft_bounces", "²", "soft_bounces: got '²'; expected a whole number"),
        ("soft_bounces", "٣", "soft_bounces: got '٣'; expected a whole number"),
        ("hard_bounces", "9" * 10, "hard_bounces: got '9999999999'; expected a whole number"),
        ("hard_bounces", "9" * 9_000, "expected a whole number"),
        ("email", "a\0b@example.com", "got a NUL character; expected text"),
        ("profile", "x" * (MAX_CELL_CHARACTERS + 1), "a cell is too long; expected at most 10,000"),
        ("profile", '"gold"en', "unbalanced quote; expected"),
        ("profile", '"gold', "unbalanced quote; expected"),
    ],
)
def test_rows_that_are_rejected(path: Path, columns: str, cells: str, cause: str) -> None:
    rejected = only_reject(path, columns, cells)
    assert cause in rejected.message
    assert (rejected.line, rejected.text) == (2, f"C1,{cells}")


@pytest.mark.parametrize(
    ("cell", "cause"),
    [
        ("", "missing customer_id; expected 1 to 255 characters"),
        ("  ", "missing customer_id; expected 1 to 255 characters"),
        ("x" * (MAX_ID_CHARACTERS + 1), "customer_id is too long; expected 1 to 255 characters"),
    ],
)
def test_customer_ids_that_are_rejected(path: Path, cell: str, cause: str) -> None:
    rows = rows_of(path, f"customer_id,email\n{cell},a@example.com\nC2,\n")
    assert rejects(rows) == [RejectedRow(2, RejectCause.MISSING_ID, cause, f"{cell},a@example.com")]
    assert ids(rows) == ["C2"]


def test_length_limits_are_inclusive(path: Path) -> None:
    longest = rows_of(
        path, f"customer_id,profile\n{'i' * MAX_ID_CHARACTERS},{'x' * MAX_CELL_CHARACTERS}\n"
    )
    assert ids(longest) == ["i" * MAX_ID_CHARACTERS]


def test_a_rejected_row_does_not_take_its_customer_id(path: Path) -> None:
    rows = rows_of(path, "customer_id,ndnc\nC1,perhaps\n C1 ,no\nc1,no\nC1,yes\n")
    assert ids(rows) == ["C1", "c1"]
    assert [(row.line, row.message) for row in rejects(rows)] == [
        (2, "ndnc: got 'perhaps'; expected yes, no, true, false, 1, 0 or nothing"),
        (5, "duplicate customer_id; same as in line 3"),
    ]


def test_bytes_that_are_not_utf_8(path: Path) -> None:
    rows = rows_of(path, b"customer_id,profile\nC1,Zo\xeb\nC2,Zo\xc3\xab\nC3,\xed\xa0\x80\n")
    assert ids(rows) == ["C2"]
    assert rejects(rows) == [
        RejectedRow(
            2, RejectCause.ENCODING, "got the byte 0xEB; expected UTF-8 text", "C1,Zo\udceb"
        ),
        RejectedRow(
            4,
            RejectCause.ENCODING,
            "got the byte 0xED; expected UTF-8 text",
            "C3,\udced\udca0\udc80",
        ),
    ]


GOOD = (
    'A{0},a{0}@example.com,"Leeds, Headrow",gold\n',
    'B{0},,"York\nShambles",\n',
    "C{0},c{0}@example.com,Bath,silver\n",
    '"D{0}","","","say ""hi"""\n',
)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("first", range(4))
def test_a_stray_quote_costs_its_own_line_only(path: Path, place: int, first: int) -> None:
    """The quote is in any cell, before any of the good rows, and at the end of the file."""
    cells = ["X", "x@example.com", "Hull", "gold"]
    cells[place] = f'"{cells[place]}'
    stray = ",".join(cells)
    good = [row.format(number) for number in range(60) for row in GOOD][first:]
    rows = rows_of(path, f"customer_id,email,last_store,profile\n{stray}\n{''.join(good)}")
    assert len(ids(rows)) == len(good)
    assert [(row.line, row.text) for row in rejects(rows)] == [(2, stray)]
    assert rejects(rows)[0].message.startswith("unbalanced quote")
    rows = rows_of(path, f"customer_id,email,last_store,profile\n{''.join(good)}{stray}")
    assert len(ids(rows)) == len(good)
    assert [row.text for row in rejects(rows)] == [stray]


def test_a_second_stray_quote_does_not_hide_the_rows_between(path: Path) -> None:
    """The two quotes together would make one row with the right number of cells."""
    content = 'customer_id,email,ndnc\nC1,"a@example.com,no\nC2,,no\nC3,c@example.com",no\nC4,,\n'
    rows = rows_of(path, content)
    assert ids(rows) == ["C2", "C3", "C4"]
    assert [(row.line, row.text) for row in rejects(rows)] == [(2, 'C1,"a@example.com,no')]


def test_a_row_has_a_limited_number_of_lines(path: Path) -> None:
    row = 'customer_id,profile\nC1,"{}"\nC2,\n'
    assert ids(rows_of(path, row.format("x\n" * (MAX_ROW_LINES - 1)))) == ["C1", "C2"]
    rows = rows_of(path, row.format("x\n" * MAX_ROW_LINES))
    assert ids(rows) == ["C2"]
    assert rejects(rows)[0].message.startswith("unbalanced quote")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_without_end_is_cut_short(path: Path, end: str) -> None:
    line = "C1," + "x" * (3 * MAX_LINE_CHARACTERS)
    rows = rows_of(path, f"customer_id,profile{end}{line}{end}C2,{end}C2,{end}")
    assert ids(rows) == ["C2"]
    too_long, duplicate = rejects(rows)
    assert too_long.message == "the row is too long; expected at most 65,536 characters"
    assert line.startswith(too_long.text)
    assert len(too_long.text) <= MAX_LINE_CHARACTERS + 1
    assert duplicate.line == 4


@given(body=st.binary() | st.text('ab",\n\r\0 ').map(str.encode))
@example(body=b'"')
@example(body=b'x",y,"z\n' * 300)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_row_stops_the_import(path: Path, body: bytes) -> None:
    rows = rows_of(path, b"customer_id,profile\nfirst,\n" + body + b"\nlast\xff,\n")
    assert ids(rows)[0] == "first"
    lines = [row.line for row in rejects(rows)]
    assert lines == sorted(set(lines))
    assert "last" in rejects(rows)[-1].text


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "the first line is empty; expected the names of the columns"),
        (b"\xef\xbb\xbf", "the first line is empty"),
        (b"\ncustomer_id\n", "the first line is empty"),
        (b",,\n", "the first line is empty"),
        (b"email,mobile\n", "missing column customer_id in email, mobile; it is required"),
        (b"customer_id,e-mail\n", r"unknown column 'e-mail' \(did you mean email\?\); expected"),
        (b"customer_id,Soft_Bounce\n", r"'Soft_Bounce' \(did you mean soft_bounces"),
        (b"customer_id,quux\n", "unknown column 'quux'; expected customer_id, email, .*tag:NAME"),
        (b"customer_id;email\n", "unknown column 'customer_id;email'.*with commas between"),
        (b"customer_id,tag:\n", "unknown column 'tag:'"),
        (b"customer_id,field: \n", "unknown column 'field:'"),
        (b"customer_id,my-tag:x\n", "unknown column 'my-tag:x'"),
        (b"customer_id,email,EMAIL \n", "got column 'email' twice; expected each column once"),
        (b"customer_id,tag:x,Tag:x\n", "got column 'tag:x' twice"),
        (b"customer_id,,email\n", "column 2 has no name; expected one for every column"),
        (b"customer_id,email,\n", "column 3 has no name"),
        (b'customer_id,"email\n', "unbalanced quote"),
        (b"customer_id,tag:\xe9\n", "got the byte 0xE9; expected UTF-8"),
        ("customer_id\n".encode("utf-16"), "expected UTF-8"),
        ("customer_id\n".encode("utf-16-le"), "NUL"),
        (b"customer_id,tag:" + b"x" * MAX_LINE_CHARACTERS, "too long"),
    ],
)
def test_wrong_headers_are_refused(path: Path, header: bytes, message: str) -> None:
    path.write_bytes(header)
    with pytest.raises(UsageError, match=message) as raised:
        next(read_customers(own(path), ProblemCounts()))
    assert str(raised.value).startswith(f"{path}: can't read the header: ")
    assert "\n" not in str(raised.value)


def test_a_header_alone_is_an_empty_audience(path: Path) -> None:
    assert rows_of(path, "customer_id,email") == []


def test_missing_files(tmp_path: Path) -> None:
    for path, message in [
        (tmp_path / "nowhere.csv", "No such file or directory"),
        (tmp_path / "nowhere" / "audience.csv", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ]:
        with pytest.raises(UsageError, match=message) as raised:
            next(read_customers(own(path), ProblemCounts()))
        assert str(path) in str(raised.value)


def counted(path: Path, content: str) -> tuple[list[str], dict[Problem, int]]:
    """Return the ids that are read, and the problems."""
    counts = ProblemCounts()
    read = ids(rows_of(path, content, counts))
    assert len(read) == counts.customers
    return read, dict(counts.by_problem)


def test_missing_cells_at_the_end_are_empty(path: Path) -> None:
    read, problems = counted(
        path,
        "customer_id,email,last_store\nC1,a@example.com\nC2\nC3,c@example.com,York\n"
        "C4,,York,more\n",
    )
    assert (read, problems) == (
        ["C1", "C2", "C3"],
        {Repair.MISSING_CELLS: 2, RejectCause.CELL_COUNT: 1},
    )


def test_cells_that_a_stray_quote_may_have_taken_are_not_missing(path: Path) -> None:
    read, problems = counted(path, 'customer_id,profile\nC1,"gold\nsilver\nC2,\n')
    assert (read, problems) == (
        ["C2"],
        {RejectCause.UNBALANCED_QUOTE: 1, RejectCause.CELL_COUNT: 1},
    )


def test_rows_of_empty_cells_are_blank(path: Path) -> None:
    assert counted(path, "customer_id,email\n,\nC1,\n , \n") == (["C1"], {})


@pytest.mark.parametrize(
    "repeated", ["customer_id,email", "\ufeffcustomer_id,email", ' CUSTOMER_ID ,"email"']
)
def test_a_repeated_header_is_skipped(path: Path, repeated: str) -> None:
    content = f"customer_id,email\nC1,\n{repeated}\nC2,\n"
    read, problems = counted(path, content)
    problems.pop(Repair.INVISIBLE_CHARACTERS, None)
    assert (read, problems) == (["C1", "C2"], {Repair.REPEATED_HEADER: 1})


@pytest.mark.parametrize(
    "invisible", ["\u200b", "\ufeff", "\u2060", "\xad", "\u202e", "\x1f", "\x7f"]
)
def test_invisible_characters_are_removed_and_counted(path: Path, invisible: str) -> None:
    counts = ProblemCounts()
    content = (
        f"customer_id,em{invisible}ail,profile\nC1{invisible},a{invisible}@example.com,g{invisible}\n"
        "C1,b@example.com,\nC2,c@example.com,\n"
    )
    one, duplicate, _ = rows_of(path, content, counts)
    assert isinstance(one, CustomerRecord)
    assert (one.customer_id, one.email, one.profile) == ("C1", "a@example.com", "g")
    assert isinstance(duplicate, RejectedRow)
    assert counts.by_problem == {Repair.INVISIBLE_CHARACTERS: 1, RejectCause.DUPLICATE_ID: 1}


def test_joiners_belong_to_text_for_people_but_not_to_addresses(path: Path) -> None:
    family, name = "\U0001f468\u200d\U0001f469", "می\u200cخواهم"
    counts = ProblemCounts()
    content = f"customer_id,email,profile,field:x\nC1,a\u200c@example.com,{family},{name}\n"
    [row] = rows_of(path, content, counts)
    assert isinstance(row, CustomerRecord)
    assert (row.email, row.profile) == ("a@example.com", family)
    assert json.loads(row.custom) == {"field:x": name}
    assert counts.by_problem == {Repair.INVISIBLE_CHARACTERS: 1}


def test_joiners_that_a_domain_needs_remain(path: Path) -> None:
    counts = ProblemCounts()
    content = "customer_id,email\nC1,a@ශ්\u200dරී.lk\nC2,a@ශ්රී.lk\nC3,a@sh\u200dop.example\n"
    rows = [row for row in rows_of(path, content, counts) if isinstance(row, CustomerRecord)]
    assert [row.email_key for row in rows] == [
        "a@xn--10cl1a0b660p.lk",
        "a@xn--10cl1a0b.lk",
        "a@shop.example",
    ]
    assert counts.by_problem == {Repair.INVISIBLE_CHARACTERS: 1}


@pytest.mark.parametrize("word", ["N/A", "null", "NULL", "-", "NaN", "#N/A", "None", "\\N"])
def test_words_for_an_empty_cell(path: Path, word: str) -> None:
    columns = "email,mobile,ndnc,hard_bounces,unsubscribed,last_store,coupon_expires,field:x"
    assert only_customer(path, columns, ",".join([word] * 8)) == PLAIN
    assert counted(path, f"customer_id\n{word}\n") == ([], {RejectCause.MISSING_ID: 1})


def test_formulas_are_text_and_our_own_escape_is_removed(path: Path) -> None:
    customer = only_customer(path, "profile,last_store,mobile", "=1+1,'=SUM(A1),'+447700900123")
    assert (customer.profile, customer.last_store) == ("=1+1", "=SUM(A1)")
    assert customer.mobile_e164 == "+447700900123"
    assert only_customer(path, "profile", "'quoted'").profile == "'quoted'"


def test_problems_are_counted_with_their_first_lines(path: Path) -> None:
    counts = ProblemCounts()
    rows_of(path, "customer_id,mobile\nC1,\nC1,\nC2,12\n,\nC1,\nC3\n", counts)
    assert counts.by_problem == {
        RejectCause.DUPLICATE_ID: 2,
        MobileProblem.NO_COUNTRY: 1,
        Repair.MISSING_CELLS: 1,
    }
    assert counts.first_lines == {
        RejectCause.DUPLICATE_ID: 3,
        MobileProblem.NO_COUNTRY: 4,
        Repair.MISSING_CELLS: 7,
    }
    assert (counts.rows, counts.rejects, counts.customers) == (5, 2, 3)


def test_rows_are_read_lazily(path: Path) -> None:
    path.write_text("customer_id\n" + "".join(f"C{number}\n" for number in range(100_000)))
    with path.open("r+") as file:
        rows = read_customers(own(path), ProblemCounts())
        assert ids([next(rows)]) == ["C0"]
        file.truncate(len("customer_id\nC0\nC1\n"))
        assert len(list(rows)) < 99_999


def test_the_shipped_audience_file() -> None:
    rows = list(read_customers(own(SHIPPED), ProblemCounts()))
    customers = [row for row in rows if isinstance(row, CustomerRecord)]
    causes = [row.message for row in rejects(rows)]
    assert (len(rows), len(customers)) == (2_000, 1_976)
    assert sum(cause.startswith("duplicate customer_id") for cause in causes) == 14
    assert sum(cause.startswith("unbalanced quote") for cause in causes) == 2
    assert sum("expected UTF-8" in cause for cause in causes) == 2
    assert sum(customer.email is None for customer in customers) == 91
    assert sum(customer.mobile is None for customer in customers) == 178
    assert sum(customer.mobile_e164 is None for customer in customers) == 329
    assert sum(customer.last_store is None for customer in customers) == 148
    assert sum(customer.loyalty_member for customer in customers) == 1_383
    fiction = re.compile(r"\+447700900\d{3}|\+1\d{3}55501\d\d|\+61491570\d{3}")
    assert all(
        fiction.fullmatch(customer.mobile_e164) for customer in customers if customer.mobile_e164
    )
