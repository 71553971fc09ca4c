"""Parse a row of an audience file as a customer."""

import json
from collections.abc import Sequence
from typing import NamedTuple

from simulator.audience.cleaning import strip_invisible
from simulator.audience.columns import CUSTOM_PREFIXES, OPT_COLUMNS, SINGLE_LINE_COLUMNS
from simulator.audience.countries import parse_country
from simulator.audience.formats import AudienceFormat
from simulator.audience.numbers import parse_mobile_cell
from simulator.audience.problems import Problem, RejectCause, Repair
from simulator.audience.rows import Row, RowError
from simulator.audience.values import (
    CHANNELS_BY_VALUE,
    EXPORT_CHANNELS_BY_VALUE,
    EXPORT_FLAG_VALUES,
    FLAG_VALUES,
    WrongValue,
    parse_choice,
    parse_count,
    parse_date,
)
from simulator.forced import find_email_key, find_mobile_key
from tracker.csv_cells import ESCAPE, unescape_cell
from workers.addresses import is_well_formed

MAX_ID_CHARACTERS = 255
"""Length of a customer_id; PostgreSQL can't index more than 2,704 bytes."""

_encode_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode


class CustomerRecord(NamedTuple):
    """A customer as imported, in the columns of the table `customers`.

    Attributes:
        mobile_e164: mobile number in E.164, or None if `mobile` can't be used.
        hard_bounces_email: the file doesn't tell bounces by channel, so they count for both.
        custom: JSON text of an object with the keys `tag:NAME` and `field:NAME`.
        email_key: address as it is compared; None where it isn't (`simulator.forced`).
        mobile_key: mobile number as it is compared.
    """

    customer_id: str
    email: str | None
    mobile: str | None
    mobile_e164: str | None
    loyalty_member: bool
    unsubscribed_email: bool
    unsubscribed_sms: bool
    ndnc: bool
    hard_bounces_email: int
    soft_bounces_email: int
    hard_bounces_sms: int
    soft_bounces_sms: int
    last_store: str | None
    profile: str | None
    coupon_id: str | None
    coupon_expires: str | None
    coupon_redeemed: bool
    custom: str
    email_key: str | None = None
    mobile_key: str | None = None


class RowParser:
    """A parser of the rows of one file.

    Attributes:
        columns: the columns, in the order of the file.
    """

    def __init__(
        self, format: AudienceFormat, columns: Sequence[str], headings: Sequence[str]
    ) -> None:
        self._format = format
        self.columns = columns
        self._problems: list[Problem] = []
        self._header = [heading.casefold() for heading in headings]
        self._has_ids = "customer_id" in columns
        self._custom = [name for name in columns if name.startswith(CUSTOM_PREFIXES)]
        self._opt_columns = [name for name in columns if name in OPT_COLUMNS]
        self._is_mapped = format.columns is not None
        self._flags = EXPORT_FLAG_VALUES if self._is_mapped else FLAG_VALUES
        self._channels = EXPORT_CHANNELS_BY_VALUE if self._is_mapped else CHANNELS_BY_VALUE

    def is_repeated_header(self, row: Row) -> bool:
        """Return whether a row repeats the header."""
        return (
            len(row.cells) == len(self._header)
            and row.cells[0].strip().casefold() == self._header[0]
            and [" ".join(cell.split()).casefold() for cell in row.cells] == self._header
        )

    def parse_customer(self, row: Row) -> tuple[CustomerRecord, Sequence[Problem]]:
        """Return the customer of a row whose cells are sound, and the problems of the row.

        Raises:
            RowError: a cell has a value that its column can't have.
        """
        self._problems = []
        try:
            cells, is_cleaned = self._clean_cells(row)
            customer = self._parse_cells(cells, row.line)
        except WrongValue as error:
            raise RowError(RejectCause.WRONG_VALUE, str(error)) from None
        if is_cleaned:
            self._problems.append(Repair.INVISIBLE_CHARACTERS)
        if len(row.cells) < len(self.columns):
            self._problems.append(Repair.MISSING_CELLS)
        return customer, self._problems

    def _clean_cells(self, row: Row) -> tuple[dict[str, str], bool]:
        """Return the cells by their columns, and whether characters were removed from them."""
        cells, is_cleaned = row.name_cells(self.columns), row.is_cleaned
        if not row.text.isascii():
            for column in SINGLE_LINE_COLUMNS & cells.keys():
                stripped = strip_invisible(cells[column], keep_joiners=False)
                has_needed_joiners = column == "email" and is_well_formed(cells[column])
                if stripped != cells[column] and not has_needed_joiners:
                    cells[column], is_cleaned = stripped.strip(), True
        if ESCAPE in row.text:
            cells = {column: unescape_cell(cell) for column, cell in cells.items()}
        return cells, is_cleaned

    def _parse_cells(self, cells: dict[str, str], line: int) -> CustomerRecord:
        get = cells.get
        customer_id = cells["customer_id"] if self._has_ids else f"line {line}"
        if not 0 < len(customer_id) <= MAX_ID_CHARACTERS:
            got = "customer_id is too long" if customer_id else "missing customer_id"
            raise RowError(
                RejectCause.MISSING_ID, f"{got}; expected 1 to {MAX_ID_CHARACTERS} characters"
            )
        unsubscribed = self._parse_unsubscribed(cells)
        hard_bounces = self._parse_count(cells, "hard_bounces")
        soft_bounces = self._parse_count(cells, "soft_bounces")
        email, mobile = get("email") or None, get("mobile") or None
        region = self._parse_region(get("region", ""))
        mobile_e164 = self._parse_mobile(mobile, region) if mobile else None
        return CustomerRecord(
            customer_id=customer_id,
            email=email,
            mobile=mobile,
            mobile_e164=mobile_e164,
            loyalty_member=parse_choice("loyalty_member", get("loyalty_member", ""), self._flags),
            unsubscribed_email="email" in unsubscribed,
            unsubscribed_sms="sms" in unsubscribed,
            ndnc=parse_choice("ndnc", get("ndnc", ""), self._flags),
            hard_bounces_email=hard_bounces,
            soft_bounces_email=soft_bounces,
            hard_bounces_sms=hard_bounces,
            soft_bounces_sms=soft_bounces,
            last_store=get("last_store") or None,
            profile=get("profile") or None,
            coupon_id=get("coupon_id") or None,
            coupon_expires=self._parse_date(get("coupon_expires", "")) or None,
            coupon_redeemed=parse_choice(
                "coupon_redeemed", get("coupon_redeemed", ""), self._flags
            ),
            custom=_encode_json(
                ({"field:region": region} if region else {})
                | {name: cells[name] for name in self._custom if cells[name]}
            ),
            email_key=find_email_key(email),
            mobile_key=find_mobile_key(mobile_e164),
        )

    def _parse_unsubscribed(self, cells: dict[str, str]) -> frozenset[str]:
        """Return the channels that a customer unsubscribed from, by all columns that say so."""
        channels = parse_choice("unsubscribed", cells.get("unsubscribed", ""), self._channels)
        for column in self._opt_columns:
            unsubscribing_flag, of_column = OPT_COLUMNS[column]
            if parse_choice(column, cells[column], self._flags) is unsubscribing_flag:
                channels |= of_column
        return channels

    def _parse_count(self, cells: dict[str, str], column: str) -> int:
        text = cells.get(column, "")
        return parse_count(column, text.removesuffix(".0") if self._is_mapped else text)

    def _parse_region(self, text: str) -> str:
        """Return a country's code if the file is mapped; any other text stays as it is."""
        return parse_country(text) or text if self._is_mapped and text else text

    def _parse_mobile(self, mobile: str, region: str) -> str | None:
        e164, problem = parse_mobile_cell(
            mobile, region or self._format.region or "", self._format.numbers
        )
        if problem is not None:
            self._problems.append(problem)
        return e164

    def _parse_date(self, text: str) -> str:
        """Return a date in our notation if the file is mapped; any other text stays as it is."""
        if not self._is_mapped or not text:
            return text
        return parse_date(text, self._format.date_order) or text
