"""Values of exports: flags, channels, dates and countries."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.audience.countries import parse_country
from simulator.audience.values import (
    CHANNELS_BY_VALUE,
    EXPORT_CHANNELS_BY_VALUE,
    EXPORT_FLAG_VALUES,
    FLAG_VALUES,
    DateOrder,
    WrongValue,
    is_ambiguous_date,
    parse_choice,
    parse_date,
    read_date_order,
)


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-12-31", "2026-12-31"),
        ("2026/12/31", "2026-12-31"),
        ("2026-12-31 00:00:00", "2026-12-31"),
        ("2026-12-31T23:59:59Z", "2026-12-31"),
        ("31/12/2026", "2026-12-31"),
        ("12/31/2026", "2026-12-31"),
        ("31.12.26", "2026-12-31"),
        ("31 Dec 2026", "2026-12-31"),
        ("31-Dec-26", "2026-12-31"),
        ("31st December 2026", "2026-12-31"),
        ("December 31, 2026", "2026-12-31"),
        ("Dec 31 2026 10:00", "2026-12-31"),
        ("05/05/2026", "2026-05-05"),
        ("31/13/2026", None),
        ("30/02/2026", None),
        ("03/04/2026", None),
        ("soon", None),
        ("31 Foo 2026", None),
        ("2026", None),
        ("", None),
    ],
)
def test_dates_that_need_no_order(text: str, iso: str | None) -> None:
    assert parse_date(text, None) == iso


def test_the_order_decides_ambiguous_dates_only() -> None:
    assert parse_date("03/04/2026", DateOrder.DAY_FIRST) == "2026-04-03"
    assert parse_date("03/04/2026", DateOrder.MONTH_FIRST) == "2026-03-04"
    assert {parse_date("31/12/2026", order) for order in DateOrder} == {"2026-12-31"}


@given(st.dates(date(2000, 1, 1), date(2099, 12, 31)))
def test_a_date_proves_its_order_or_is_ambiguous(day: date) -> None:
    text = day.strftime("%d/%m/%Y")
    order = read_date_order(text)
    assert order in (DateOrder.DAY_FIRST, None)
    assert is_ambiguous_date(text) is (order is None and day.day != day.month)
    assert parse_date(text, DateOrder.DAY_FIRST) == day.isoformat()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("GB", "GB"),
        ("gb", "GB"),
        ("UK", "GB"),
        ("GBR", "GB"),
        ("United Kingdom", "GB"),
        ("united  kingdom", "GB"),
        ("England", "GB"),
        ("USA", "US"),
        ("U.S.A.", "US"),
        ("Deutschland", "DE"),
        ("Österreich", "AT"),
        ("日本", "JP"),
        ("India", "IN"),
        ("Czechia", "CZ"),
        ("Korea, Republic of", "KR"),
        ("NA", "NA"),
        ("+44", "GB"),
        ("1", "US"),
        ("999", None),
        ("0", None),
        ("XX", None),
        ("Atlantis", None),
        ("", None),
    ],
)
def test_countries(text: str, code: str | None) -> None:
    assert parse_country(text) == code


def test_exports_have_more_notations_than_our_files() -> None:
    for text, meaning in (("Y", True), ("ja", True), ("X", True), ("N", False), ("off", False)):
        assert parse_choice("ndnc", text, EXPORT_FLAG_VALUES) is meaning
        with pytest.raises(WrongValue, match=r"expected yes, no, true, false, 1, 0 or nothing$"):
            parse_choice("ndnc", text, FLAG_VALUES)
    for text, channels in (("Yes", {"email", "sms"}), ("E-Mail", {"email"}), ("No", set())):
        assert parse_choice("unsubscribed", text, EXPORT_CHANNELS_BY_VALUE) == channels
        with pytest.raises(WrongValue, match=r"expected email, sms, both or nothing$"):
            parse_choice("unsubscribed", text, CHANNELS_BY_VALUE)
