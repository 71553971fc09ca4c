"""Inspect an audience file: guess its format, and count every problem of its rows."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simulator.audience.columns import IGNORED, OPT_COLUMNS
from simulator.audience.countries import parse_country
from simulator.audience.dialect import guess_encoding, guess_separator
from simulator.audience.formats import AudienceFile, AudienceFormat, AudienceSection
from simulator.audience.header import WrongHeader, find_own_column, number_headings, split_header
from simulator.audience.headings import guess_columns
from simulator.audience.problems import MobileProblem, ProblemCounts
from simulator.audience.reader import open_text, read_customers, read_first_lines, read_header_line
from simulator.audience.rows import RowReader, read_line
from simulator.audience.values import (
    EXPORT_FLAG_VALUES,
    DateOrder,
    is_ambiguous_date,
    parse_date,
    read_date_order,
)
from simulator.values import MAX_VALUE_CHARACTERS
from tracker.errors import UsageError
from tracker.text import pluralize

MAX_SAMPLES = 3
"""Different values of a column that are shown."""

MAX_LINES_ABOVE_HEADER = 20
"""Lines below the first one among which the header is looked for."""

DATE_COLUMN = "coupon_expires"
"""The column whose dates depend on the order of day and month."""

REGION_COLUMN = "region"


@dataclass
class ColumnValues:
    """A summary of the values of a column.

    Attributes:
        column: the column that its heading means, or None.
        samples: its first different values.
        empty: how many cells are empty.
        unreadable: how many values aren't dates or countries, if they should be.
        orders: how many dates prove each order of day and month.
        ambiguous: how many dates can be read in both orders.
        flags: how many values mean yes or no.
        texts: how many values mean neither.
    """

    column: str | None = None
    samples: list[str] = field(default_factory=list)
    empty: int = 0
    unreadable: int = 0
    first_unreadable: str = ""
    orders: dict[DateOrder, int] = field(default_factory=lambda: dict.fromkeys(DateOrder, 0))
    ambiguous: int = 0
    flags: int = 0
    texts: int = 0

    def add(self, value: str) -> None:
        """Add the value of a cell."""
        if not value:
            self.empty += 1
            return
        if len(self.samples) < MAX_SAMPLES and value not in self.samples:
            self.samples.append(value)
        if value.lower() in EXPORT_FLAG_VALUES:
            self.flags += 1
        else:
            self.texts += 1
        if (self.column == DATE_COLUMN and parse_date(value, DateOrder.DAY_FIRST) is None) or (
            self.column == REGION_COLUMN and parse_country(value) is None
        ):
            self.first_unreadable = self.first_unreadable or value[:MAX_VALUE_CHARACTERS]
            self.unreadable += 1
        if value[0].isdigit():
            order = read_date_order(value)
            if order is not None:
                self.orders[order] += 1
            elif is_ambiguous_date(value):
                self.ambiguous += 1


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A summary of an audience file: its guessed format, its values and its problems.

    Attributes:
        format: the format that was guessed, with a target for each heading.
        values: values of its columns, by their headings.
        counts: counts of its rows and their problems, read in this format.
        notes: points that a person must check.
    """

    path: Path
    format: AudienceFormat
    values: dict[str, ColumnValues]
    counts: ProblemCounts
    notes: Sequence[str]


def inspect_audience_file(
    path: Path,
    *,
    encoding: str | None = None,
    separator: str | None = None,
    region: str | None = None,
    other_columns: str = IGNORED,
) -> Inspection:
    """Guess the format of an audience file, and read it in this format.

    Args:
        encoding: its encoding; None to guess it.
        separator: its separator; None to guess it.
        region: country of national mobile numbers in rows without a region.
        other_columns: what happens to columns without a known meaning: `ignore` or `field`.

    Raises:
        UsageError: the file can't be read, or has no header.
    """
    encoding, separator, values = _read_file(path, encoding, separator)
    orders, counts = _sum_orders(values), ProblemCounts()
    section = AudienceSection.model_validate(
        {
            "file": path.name,
            "encoding": encoding,
            "separator": separator,
            "columns": _choose_targets(values, other_columns),
            "region": region,
            "date_order": _choose_order(orders),
        }
    )
    as_read = section.model_copy(update={"columns": None}) if is_own_format(section) else section
    deque(read_customers(AudienceFile.in_folder(path.parent, as_read), counts), maxlen=0)
    return Inspection(
        path=path,
        format=section,
        values=values,
        counts=counts,
        notes=[
            *_list_notes(section, counts),
            *_list_header_notes(path, encoding, separator),
            *_list_flag_notes(values),
            *_list_consent_notes(values),
            *_list_date_notes(values, orders),
            *_list_unreadable_notes(values),
        ],
    )


def _read_file(
    path: Path, encoding: str | None, separator: str | None
) -> tuple[str, str, dict[str, ColumnValues]]:
    """Return encoding, separator and values of a file, or raise UsageError."""
    try:
        encoding = encoding or guess_encoding(path)
        separator = separator or guess_separator(read_first_lines(path, encoding))
        return encoding, separator, _read_values(path, encoding, separator)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: can't be read: {error}") from None


def _choose_targets(values: dict[str, ColumnValues], other_columns: str) -> dict[str, str]:
    """Return what each heading means."""
    return {
        heading: column.column
        or find_own_column(heading)
        or (f"field:{heading}" if other_columns == "field" else IGNORED)
        for heading, column in values.items()
    }


def _read_values(path: Path, encoding: str, separator: str) -> dict[str, ColumnValues]:
    """Return what the values of each column look like, by its heading."""
    with open_text(path, encoding) as stream:
        header, first_line = read_header_line(stream)
        headings = [*number_headings(split_header(header, separator))]
        if not headings:
            raise ValueError("the first line is empty; expected the names of the columns")
        columns = guess_columns(headings)
        values = {heading: ColumnValues(columns.get(heading)) for heading in headings}
        for row in RowReader(stream, headings, separator, first_line):
            if row.error is None:
                for heading, value in row.name_cells(headings).items():
                    if value != heading:  # a header may be repeated
                        values[heading].add(value)
    return values


def _sum_orders(values: dict[str, ColumnValues]) -> dict[DateOrder, int]:
    """Return how many dates prove each order: those of the date column, else those of all."""
    own = [column.orders for column in values.values() if column.column == DATE_COLUMN]
    for orders in (own, [column.orders for column in values.values()]):
        total = {order: sum(counts[order] for counts in orders) for order in DateOrder}
        if any(total.values()):
            return total
    return dict.fromkeys(DateOrder, 0)


def _choose_order(orders: dict[DateOrder, int]) -> DateOrder | None:
    """Return the order that dates prove, or None if none or both are proved."""
    proved = [order for order, count in orders.items() if count]
    return proved[0] if len(proved) == 1 else None


def _list_notes(format: AudienceFormat, counts: ProblemCounts) -> Iterator[str]:
    targets = (format.columns or {}).values()
    if "customer_id" not in targets:
        yield "no column is a customer_id; the id of a customer is its line in the file"
    if not {"email", "mobile"} & {*targets}:
        yield "no column is an email address or a mobile number; no message can be sent"
    national = counts.by_problem[MobileProblem.NO_COUNTRY]
    if national:
        yield (
            f"{pluralize(national, 'mobile number')} without a country;"
            " --region XX names the country of national numbers"
        )


def _list_header_notes(path: Path, encoding: str, separator: str) -> Iterator[str]:
    """Yield which line looks more like the header than the first one, if there is one."""
    with open_text(path, encoding) as stream:
        header, first_line = read_header_line(stream)
        lines = [header, *(read_line(stream) for _ in range(MAX_LINES_ABOVE_HEADER))]
    headings = [len(guess_columns(_split(line, separator))) for line in lines]
    most = max(headings)
    if most > max(1, headings[0]):
        line = first_line + headings.index(most) - 1
        yield f"line {line} looks like the header; remove the lines above it"


def _split(line: str, separator: str) -> list[str]:
    """Return the cells of a line; none if the line is only a part of a row."""
    try:
        return split_header(line, separator)
    except WrongHeader:
        return []


def _list_flag_notes(values: dict[str, ColumnValues]) -> Iterator[str]:
    """Yield which ignored columns may say who opted out, whatever the language of the heading."""
    for heading, column in values.items():
        is_unknown = column.column is None and find_own_column(heading) is None
        if is_unknown and column.flags and not column.texts:
            yield f"{heading}: yes or no, with an unknown meaning; it may say who opted out"


def _list_consent_notes(values: dict[str, ColumnValues]) -> Iterator[str]:
    """Yield which columns of consent have empty cells."""
    for heading, column in values.items():
        means_consent = not OPT_COLUMNS.get(column.column or "", (True, ()))[0]
        if means_consent and column.empty:
            yield f"{heading}: {pluralize(column.empty, 'empty cell')}, read as no consent"


def _list_date_notes(
    values: dict[str, ColumnValues], orders: dict[DateOrder, int]
) -> Iterator[str]:
    """Yield a note if the dates of the date column don't show the order of day and month."""
    for heading, column in values.items():
        if column.column != DATE_COLUMN:
            continue
        if all(orders.values()):
            counts = " and ".join(f"{count:,} {order}" for order, count in orders.items())
            yield (
                f"{heading}: dates contradict each other ({counts}); those that can be read in both"
                " orders aren't read; date_order decides"
            )
        elif column.ambiguous and not any(orders.values()):
            yield (
                f"{heading}: {pluralize(column.ambiguous, 'ambiguous date')}, because no date of"
                " the file tells whether the day or the month comes first; date_order decides"
            )


def _list_unreadable_notes(values: dict[str, ColumnValues]) -> Iterator[str]:
    """Yield which columns have values that should be dates or countries and aren't."""
    for heading, column in values.items():
        if column.unreadable:
            noun = "date" if column.column == DATE_COLUMN else "country"
            values_without = f"{pluralize(column.unreadable, 'value')} without a readable {noun}"
            yield f"{heading}: {values_without}, such as {column.first_unreadable!r}"


def is_own_format(format: AudienceFormat) -> bool:
    """Return whether a file with this format can be read without a mapping."""
    targets = format.columns or {}
    has_own_names = all(find_own_column(heading) == target for heading, target in targets.items())
    is_own = has_own_names and "customer_id" in targets.values()
    return is_own and (format.encoding, format.separator) == ("utf-8", ",")
