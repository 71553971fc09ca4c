"""Add the recipients of a file to a suppression list, in batches."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import tzinfo

from simulator.audience.values import parse_count
from simulator.suppressions.files import AddressFile, Cause, ListedRow, RejectedLine
from simulator.suppressions.recipients import (
    AddressProblem,
    UnusableEntry,
    check_reason,
    parse_expiry,
    parse_recipient,
    parse_time,
)
from tracker.clock import Instant, SystemClock
from tracker.csv_cells import unescape_cell
from tracker.record.retention.erased import ERASED_PREFIX
from tracker.record.suppressions.entries import Recipient, Suppression, add_entries
from tracker.settings import load_settings
from tracker.status import Channel, SuppressionReason
from tracker.store.database import Database
from tracker.store.schema.suppressions import suppressions
from tracker.text import pluralize

BATCH_ENTRIES = 10_000
"""Entries that are added in one transaction."""

MAX_SOURCE_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """The entries that the recipients of a file become.

    Attributes:
        reason: None to read the column `reason` of a file that `export` wrote.
        count: bounces of each recipient, for reasons that are bounces.
        expires_at: None for never.
        region: country of national numbers; an empty text for none.
    """

    organization: str
    reason: SuppressionReason | None
    count: int = 1
    expires_at: Instant | None = None
    region: str = ""


@dataclass
class ImportCounts:
    """Counts of the rows of an imported file.

    Attributes:
        added: recipients that weren't on the list.
        already_listed: rows whose recipient was on the list, or comes twice.
        by_cause: rows that can't be used.
        first_lines: the first line with each cause, and why it can't be used.
    """

    added: int = 0
    already_listed: int = 0
    by_cause: Counter[Cause] = field(default_factory=Counter)
    first_lines: dict[Cause, tuple[int, str]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.added + self.already_listed + self.rejected

    @property
    def rejected(self) -> int:
        """Rows that can't be used."""
        return self.by_cause.total()

    def describe_causes(self) -> Iterator[str]:
        """Yield a line for each cause for which rows can't be used, the most frequent first."""
        for cause, count in self.by_cause.most_common():
            line, message = self.first_lines[cause]
            yield f"  {cause}: {pluralize(count, 'row')}, the first in line {line}: {message}"

    def reject(self, rejected: RejectedLine) -> None:
        """Count a row that can't be used."""
        self.by_cause[rejected.cause] += 1
        self.first_lines.setdefault(rejected.cause, (rejected.line, rejected.message))


def import_addresses(
    database: Database,
    file: AddressFile,
    request: ImportRequest,
    progress: Callable[[int], None],
) -> ImportCounts:
    """Add the recipients of a file to an organization's list, and count its rows.

    Args:
        request: what they are listed as.
        progress: called with the number of rows of each batch.
    """
    counts = ImportCounts()
    batch: dict[object, Suppression] = {}

    def add_batch() -> None:
        if batch:
            entries = [*batch.values()]
            with database.write() as connection:
                database.lock_table(connection, suppressions)
                added = add_entries(
                    database, connection, request.organization, entries, SystemClock().now()
                )
            counts.added += added
            counts.already_listed += len(entries) - added
            progress(len(entries))
            batch.clear()

    for row in _parse_rows(file, request):
        if isinstance(row, RejectedLine):
            counts.reject(row)
        elif row.key in batch:
            counts.already_listed += 1
        else:
            batch[row.key] = row
        if len(batch) == BATCH_ENTRIES:
            add_batch()
    add_batch()
    return counts


def _parse_rows(file: AddressFile, request: ImportRequest) -> Iterator[Suppression | RejectedLine]:
    since, zone = SystemClock().now(), load_settings().zone
    for row in file.read_rows():
        if isinstance(row, RejectedLine):
            yield row
            continue
        try:
            if request.reason is None:
                yield _parse_exported_row(row, since, zone)
            else:
                yield _parse_row(file, request, request.reason, row, since)
        except UnusableEntry as error:
            yield RejectedLine(row.line, error.cause, str(error))


def _parse_row(
    file: AddressFile,
    request: ImportRequest,
    reason: SuppressionReason,
    row: ListedRow,
    since: Instant,
) -> Suppression:
    recipient = parse_recipient(row.cells[file.column], file.channel, request.region)
    check_reason(reason, recipient.channel)
    count = request.count if reason.is_bounce else 1
    return Suppression(recipient, reason, count, file.path.name, since, request.expires_at)


def _parse_exported_row(row: ListedRow, now: Instant, zone: tzinfo) -> Suppression:
    """Return the entry of a row that `sendtrace suppressions export` wrote."""
    cells = row.cells
    try:
        channel, reason = Channel(cells["channel"]), SuppressionReason(cells["reason"])
        count = parse_count("count", cells["count"] or "1")
        since = parse_time(cells["since"]) if cells["since"] else now
        expires_at = parse_expiry(cells["expires"], zone) if cells["expires"] else None
    except ValueError as error:
        raise UnusableEntry(AddressProblem.WRONG_VALUE, str(error)) from None
    if count == 0:
        raise UnusableEntry(AddressProblem.WRONG_VALUE, "count: got 0; expected 1 or more")
    if cells["address"].startswith(ERASED_PREFIX):
        recipient = Recipient(channel, cells["address"])
    else:
        recipient = parse_recipient(cells["address"], channel)
    check_reason(reason, channel)
    source = unescape_cell(cells["source"])[:MAX_SOURCE_CHARACTERS] or "import"
    return Suppression(recipient, reason, count, source, since, expires_at)
