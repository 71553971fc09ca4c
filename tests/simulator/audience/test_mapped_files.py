"""Files of other systems: what a mapping says of their columns and values."""

import json
from pathlib import Path
from typing import Any

import pytest

from simulator.audience.formats import AudienceFile, AudienceSection, load_mapping
from simulator.audience.problems import MobileProblem, ProblemCounts, RejectCause, Repair
from simulator.audience.reader import RejectedRow, read_customers
from simulator.audience.row_parser import CustomerRecord
from simulator.audience.values import DateOrder
from simulator.validation_errors import parse_table
from simulator.values import InvalidKey
from tracker.errors import UsageError
from workers.mobile import NumberRule


class Imported:
    """A file that was read with some keys of a scenario's table."""

    def __init__(self, folder: Path, content: str | bytes, **keys: Any) -> None:
        path = folder / "crm.csv"
        encoding = keys.get("encoding", "utf-8")
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        section = parse_table(AudienceSection, {"file": path.name, **keys})
        self.counts = ProblemCounts()
        rows = list(read_customers(AudienceFile.in_folder(folder, section), self.counts))
        self.customers = [row for row in rows if isinstance(row, CustomerRecord)]
        self.rejects = [row for row in rows if isinstance(row, RejectedRow)]

    @property
    def only(self) -> CustomerRecord:
        [customer] = self.customers
        return customer


def test_columns_are_renamed_and_the_others_ignored(tmp_path: Path) -> None:
    read = Imported(
        tmp_path,
        "CUSTOMER_ID,E-mail  Address,Shoe Size\nC1,a@example.com,42\n",
        columns={"e-mail address": "email"},
    )
    assert (read.only.customer_id, read.only.email, read.only.custom) == (
        "C1",
        "a@example.com",
        "{}",
    )


def test_other_columns_become_fields_on_demand(tmp_path: Path) -> None:
    content = "customer_id,Shoe Size,,Shoe Size,tag:x\nC1,42,b,43,1\n"
    expected = {
        "field:Shoe Size": "42",
        "field:column 3": "b",
        "field:Shoe Size (2)": "43",
        "tag:x": "1",
    }
    choices: tuple[dict[str, Any], ...] = ({"columns": {}}, {"region": "GB"})
    for keys in choices:
        read = Imported(tmp_path, content, other_columns="field", **keys)
        assert json.loads(read.only.custom) == expected


def test_a_column_can_be_ignored_although_its_name_is_ours(tmp_path: Path) -> None:
    read = Imported(tmp_path, "customer_id,email\nC1,a@example.com\n", columns={"email": "ignore"})
    assert read.only.email is None


def test_a_mapped_heading_wins_over_one_that_is_named_like_its_column(tmp_path: Path) -> None:
    read = Imported(
        tmp_path,
        "customer_id,mobile,Handy\nC1,+447700900001,+447700900002\n",
        columns={"Handy": "mobile"},
    )
    assert read.only.mobile_e164 == "+447700900002"


def test_customers_without_an_id_are_named_after_their_line(tmp_path: Path) -> None:
    read = Imported(tmp_path, "Email\na@example.com\n\nb@example.com\n", columns={"Email": "email"})
    assert [customer.customer_id for customer in read.customers] == ["line 2", "line 4"]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16", b""),
        ("windows-1252", b""),
        ("shift_jis", b""),
    ],
)
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators(
    tmp_path: Path, encoding: str, mark: bytes, separator: str
) -> None:
    name = "山田" if encoding == "shift_jis" else "Zoë"
    lines = (("customer_id", "profile"), ("C1", f'"{name} {separator}"'))
    content = "\r\n".join(separator.join(line) for line in lines)
    read = Imported(
        tmp_path, mark + content.encode(encoding), encoding=encoding, separator=separator
    )
    assert read.only.profile == f"{name} {separator}".strip()


def test_bytes_that_the_encoding_does_not_have(tmp_path: Path) -> None:
    read = Imported(tmp_path, b"customer_id,profile\nC1,\x81\nC2,\x80\n", encoding="windows-1252")
    assert read.only.profile == "€"
    assert [row.cause for row in read.rejects] == [RejectCause.ENCODING]


def test_the_line_that_tells_excel_the_separator_is_skipped(tmp_path: Path) -> None:
    read = Imported(tmp_path, "sep=;\ncustomer_id;ndnc\nC1;maybe\nC2;1\n", separator="semicolon")
    assert (read.only.customer_id, read.rejects[0].line) == ("C2", 3)


def test_a_heading_of_two_lines(tmp_path: Path) -> None:
    read = Imported(
        tmp_path,
        'customer_id,"Email\r\nAddress",ndnc\r\nC1,a@example.com,\r\nC2,,maybe\r\n',
        columns={"Email Address": "email"},
    )
    assert (read.only.email, read.rejects[0].line) == ("a@example.com", 4)


@pytest.mark.parametrize(
    ("columns", "cells", "email", "sms"),
    [
        ({"a": "unsubscribed"}, "Y", True, True),
        ({"a": "unsubscribed"}, "sms", False, True),
        ({"a": "unsubscribed"}, "", False, False),
        ({"a": "unsubscribed_email"}, "yes", True, False),
        ({"a": "unsubscribed_sms"}, "x", False, True),
        ({"a": "subscribed"}, "yes", False, False),
        ({"a": "subscribed"}, "no", True, True),
        ({"a": "subscribed"}, "", True, True),
        ({"a": "subscribed_sms"}, "N/A", False, True),
        ({"a": "subscribed_email"}, "0", True, False),
    ],
)
def test_opt_outs_and_consent(
    tmp_path: Path, columns: dict[str, str], cells: str, email: bool, sms: bool
) -> None:
    read = Imported(tmp_path, f"customer_id,a\nC1,{cells}\n", columns=columns)
    assert (read.only.unsubscribed_email, read.only.unsubscribed_sms) == (email, sms)


def test_opt_outs_of_several_columns_add_up(tmp_path: Path) -> None:
    read = Imported(
        tmp_path,
        "customer_id,a,b\nC1,yes,no\nC2,no,no\n",
        columns={"a": "unsubscribed_email", "b": "subscribed_sms"},
    )
    opt_outs = [(one.unsubscribed_email, one.unsubscribed_sms) for one in read.customers]
    assert opt_outs == [(True, True), (False, True)]


def test_values_of_exports_are_read_in_mapped_files_only(tmp_path: Path) -> None:
    content = "customer_id,mobile,region,loyalty_member,soft_bounces,coupon_expires\n"
    row = "C1,07700 900123,United Kingdom,Y,3.0,31/12/2026\n"
    read = Imported(tmp_path, content + row, columns={})
    customer = read.only
    assert customer.mobile_e164 == "+447700900123"
    assert json.loads(customer.custom) == {"field:region": "GB"}
    assert (customer.loyalty_member, customer.soft_bounces_sms) == (True, 3)
    assert customer.coupon_expires == "2026-12-31"
    strict = Imported(tmp_path, content + row)
    assert [row.cause for row in strict.rejects] == [RejectCause.WRONG_VALUE]


@pytest.mark.parametrize(
    ("order", "expires"),
    [(None, "03/04/2026"), ("day_first", "2026-04-03"), ("month_first", "2026-03-04")],
)
def test_an_ambiguous_date_stays_as_it_is_without_an_order(
    tmp_path: Path, order: str | None, expires: str
) -> None:
    content = "customer_id,coupon_expires\nC1,03/04/2026\n"
    read = Imported(tmp_path, content, columns={}, date_order=order)
    assert read.only.coupon_expires == expires


def test_the_default_region_is_for_rows_without_their_own(tmp_path: Path) -> None:
    read = Imported(
        tmp_path,
        "customer_id,mobile,region\nC1,07700 900123,\nC2,(212) 555-0143,US\nC3,07700 900124,XX\n",
        region="United Kingdom",
    )
    assert [customer.mobile_e164 for customer in read.customers] == [
        "+447700900123",
        "+12125550143",
        None,
    ]
    assert read.counts.by_problem == {MobileProblem.NO_COUNTRY: 1}


def test_numbers_that_only_need_to_be_possible(tmp_path: Path) -> None:
    content = "customer_id,mobile\nC1,+442079460958\n"
    assert Imported(tmp_path, content).only.mobile_e164 is None
    assert Imported(tmp_path, content, numbers="possible").only.mobile_e164 == "+442079460958"


def test_a_repeated_header_of_a_mapped_file(tmp_path: Path) -> None:
    header = "Kunden-ID;E-Mail\n"
    read = Imported(
        tmp_path,
        f"{header}1;a@example.com\n{header}2;b@example.com\n",
        separator=";",
        columns={"Kunden-ID": "customer_id", "E-Mail": "email"},
    )
    assert [customer.customer_id for customer in read.customers] == ["1", "2"]
    assert read.counts.by_problem == {Repair.REPEATED_HEADER: 1}
    assert read.counts.rows == 2


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        ({"columns": {"a": "emial"}}, "columns", "a: unknown column 'emial'; did you mean email?"),
        ({"columns": {"a": "email", "b": "email"}}, "columns", "b: got 'email' as for 'a'"),
        ({"columns": {"a": "field:"}}, "columns", "a: unknown column 'field:'"),
        ({"columns": ["email"]}, "columns", "expected a table"),
        ({"encoding": "utf-9"}, "encoding", "got 'utf-9'; expected an encoding like"),
        ({"encoding": "base64"}, "encoding", "expected an encoding like"),
        ({"separator": ":"}, "separator", "got ':'; expected"),
        ({"region": "Atlantis"}, "region", "got 'Atlantis'; expected a country code"),
        ({"numbers": "any"}, "numbers", "expected 'valid' or 'possible'"),
        ({"date_order": "dmy"}, "date_order", "expected 'day_first' or 'month_first'"),
        ({"other_columns": "drop"}, "other_columns", "expected 'ignore' or 'field'"),
        ({"max_rejects": "many"}, "max_rejects", 'expected a share like "1 %" or 0.01'),
        ({"max_rejects": "101 %"}, "max_rejects", "got '101 %'"),
        ({"max_rejects": True}, "max_rejects", "got true"),
        ({"maping": "x.toml"}, "maping", "unknown key; did you mean mapping?"),
    ],
)
def test_wrong_keys_are_named(keys: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(InvalidKey) as raised:
        parse_table(AudienceSection, {"file": "crm.csv", **keys})
    assert raised.value.key == key
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("value", "share"), [("1 %", 0.01), ("0.5%", 0.005), ("0.01", 0.01), (0.25, 0.25), (0, 0.0)]
)
def test_shares_of_rejects(value: object, share: float) -> None:
    assert parse_table(
        AudienceSection, {"file": "x", "max_rejects": value}
    ).max_rejects == pytest.approx(share)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("customer_id,Mail\n", "no column 'E-Mail', which `columns` names; did you mean Mail?"),
        ("\n", "the first line is empty"),
        ('customer_id,"E-Mail\n', "unbalanced quote"),
    ],
)
def test_headers_that_do_not_fit_the_mapping(tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "crm.csv").write_text(header)
    section = AudienceSection(file="crm.csv", columns={"E-Mail": "email"})
    with pytest.raises(UsageError) as raised:
        next(read_customers(AudienceFile.in_folder(tmp_path, section), ProblemCounts()))
    assert message in str(raised.value)


def test_keys_of_the_scenario_replace_those_of_the_mapping_file(tmp_path: Path) -> None:
    (tmp_path / "crm.mapping.toml").write_text(
        'separator = ";"\nregion = "IN"\ndate_order = "day_first"\n[columns]\nMail = "email"\n'
    )
    section = parse_table(
        AudienceSection, {"file": "crm.csv", "mapping": "crm.mapping.toml", "region": "UK"}
    )
    file = AudienceFile.in_folder(tmp_path, section)
    loaded = file.load_format()
    assert (loaded.separator, loaded.region, loaded.columns) == (";", "GB", {"Mail": "email"})
    assert (loaded.date_order, loaded.numbers) == (DateOrder.DAY_FIRST, NumberRule.VALID)
    assert file.source_files == [tmp_path / "crm.csv", tmp_path / "crm.mapping.toml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns = 1", "columns: got 1; expected a table"),
        ('seperator = ";"', "seperator: unknown key; did you mean separator?"),
        ("[columns", "is not TOML"),
        ("\xff", "is not TOML"),
    ],
)
def test_wrong_mapping_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "crm.mapping.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as raised:
        load_mapping(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


def test_a_missing_mapping_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_mapping(tmp_path / "nowhere.toml")
