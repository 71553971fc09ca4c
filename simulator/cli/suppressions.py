"""The command group `sendtrace suppressions`, for the lists that organizations keep."""

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.audience.values import MAX_COUNT
from simulator.cli.audience import EncodingOption, SeparatorOption, parse_format_options
from simulator.cli.suppression_list import (
    make_row,
    open_list,
    parse_expiry_option,
    parse_recipients,
    select,
)
from simulator.progress_lines import ProgressLines
from tracker.clock import SystemClock
from tracker.commands import DatabaseOption, FormatOption, exit_on_error, make_group
from tracker.errors import UsageError
from tracker.output.tables import RowFormat
from tracker.status import Channel, SuppressionReason
from tracker.text import escape_control_characters, pluralize

if TYPE_CHECKING:
    from simulator.suppressions.files import AddressFile
    from simulator.suppressions.imports import ImportCounts

app = make_group("List and change the recipients that organizations suppress in all runs.")
DEFAULT_LIMIT = 1_000

OrganizationOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Name of the organization. Default: the only one."),
]
ChannelOption = Annotated[Channel | None, typer.Option(help="Channel. Default: all.")]
AddressChannelOption = Annotated[
    Channel | None, typer.Option(help="Channel. Default: that of each address.")
]
ColumnOption = Annotated[
    str | None, typer.Option(metavar="HEADING", help="Column of the addresses. Default: guessed.")
]
AddressesArgument = Annotated[
    list[str], typer.Argument(metavar="ADDRESS...", help="Email addresses and mobile numbers.")
]
ReasonOption = Annotated[SuppressionReason | None, typer.Option(help="Reason. Default: all.")]
RegionOption = Annotated[
    str | None, typer.Option(metavar="XX", help="Country of national numbers, such as IN.")
]
ExpiresOption = Annotated[
    str | None,
    typer.Option(metavar="DATE", help="Last day on which the entries count. Default: no end."),
]
CountOption = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=MAX_COUNT,
        help="Bounces of each recipient; the organization's limits decide whether they suppress.",
    ),
]


@app.command("list")
@exit_on_error
def list_entries(
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ADDRESS]...", help="Email addresses and mobile numbers. Default: all."
        ),
    ] = None,
    organization: OrganizationOption = None,
    channel: ChannelOption = None,
    reason: ReasonOption = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="Entries to list at most.")
    ] = DEFAULT_LIMIT,
    format: FormatOption = RowFormat.TABLE,
    database: DatabaseOption = None,
) -> None:
    """List entries of a suppression list, with their source, date and expiry.

    Expired entries are listed, too, until they are removed. They don't count.

    Examples: sendtrace suppressions list · sendtrace suppressions list ana@shop.example ·
    sendtrace suppressions list --reason hard_bounced --format csv
    """
    from simulator.suppressions.files import EXPORT_COLUMNS
    from tracker.output.tables import print_rows
    from tracker.record.suppressions.entries import read_entries

    with open_list(database, organization) as (record, name), record.read() as connection:
        selection = select(name, channel, reason, addresses)
        entries = [*read_entries(connection, selection, limit + 1)]
    rows = [
        {**make_row(entry, is_exact=format is not RowFormat.TABLE), "organization": name}
        for entry in entries[:limit]
    ]
    print_rows(rows, EXPORT_COLUMNS, format)
    if len(entries) > limit:
        print(f"the first {pluralize(limit, 'entry')}; see --limit", file=sys.stderr)


@app.command()
@exit_on_error
def add(
    addresses: AddressesArgument,
    organization: OrganizationOption = None,
    channel: AddressChannelOption = None,
    reason: Annotated[
        SuppressionReason, typer.Option(help="Reason.")
    ] = SuppressionReason.UNSUBSCRIBED,
    count: CountOption = 1,
    expires: ExpiresOption = None,
    region: RegionOption = None,
    database: DatabaseOption = None,
) -> None:
    """Add recipients to a suppression list.

    An entry that is there keeps its source and its date. Of two times of expiry the later counts.
    If an address can't be used, nothing is added.

    Exit codes: 0 added or already there · 2 an address that can't be used.

    Examples: sendtrace suppressions add ana@shop.example ·
    sendtrace suppressions add +447700900123 --reason ndnc --organization "Acme Retail" ·
    sendtrace suppressions add ana@shop.example --expires 2027-01-31
    """
    from simulator.suppressions.recipients import UnusableEntry, check_reason
    from tracker.record.suppressions.entries import Suppression, add_entries
    from tracker.store.schema.suppressions import suppressions as table

    now, expires_at = SystemClock().now(), parse_expiry_option(expires)
    recipients = parse_recipients(addresses, channel, region)
    for recipient in recipients:
        try:
            check_reason(reason, recipient.channel)
        except UnusableEntry as error:
            raise UsageError(f"--reason {reason}: {error}") from None
    count = count if reason.is_bounce else 1
    entries = [
        Suppression(recipient, reason, count, "cli", now, expires_at) for recipient in recipients
    ]
    with (
        open_list(database, organization, may_be_new=True) as (record, name),
        record.write() as connection,
    ):
        record.lock_table(connection, table)
        added = add_entries(record, connection, name, entries, now)
    _print(f"{name}: {added:,} added, {len(entries) - added:,} already there")


@app.command()
@exit_on_error
def remove(
    addresses: AddressesArgument,
    organization: OrganizationOption = None,
    channel: ChannelOption = None,
    reason: ReasonOption = None,
    region: RegionOption = None,
    database: DatabaseOption = None,
) -> None:
    """Remove recipients from a suppression list.

    Runs that have begun keep the list with which they began.

    Exit codes: 0 they aren't on the list any more · 2 an address that can't be used.

    Examples: sendtrace suppressions remove ana@shop.example ·
    sendtrace suppressions remove +447700900123 --reason soft_bounced
    """
    from tracker.record.suppressions.entries import remove_entries
    from tracker.store.schema.suppressions import suppressions as table

    with (
        open_list(database, organization) as (record, name),
        record.write() as connection,
    ):
        selection = select(name, channel, reason, addresses, region)
        record.lock_table(connection, table)
        removed = remove_entries(connection, selection)
    _print(f"{name}: {pluralize(removed, 'entry')} removed")


@app.command("import")
@exit_on_error
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="CSV with or without a header.")],
    as_: Annotated[
        SuppressionReason | None,
        typer.Option("--as", help="Reason. Default: that of each row of an exported list."),
    ] = None,
    organization: OrganizationOption = None,
    column: ColumnOption = None,
    channel: AddressChannelOption = None,
    count: CountOption = 1,
    expires: ExpiresOption = None,
    region: RegionOption = None,
    encoding: EncodingOption = None,
    separator: SeparatorOption = None,
    database: DatabaseOption = None,
) -> None:
    """Add the recipients of a file to a suppression list.

    Encoding, separator and the column of the addresses are guessed. Rows that can't be used are
    counted by their cause, with the first line of each. A second import changes nothing.

    Exit codes: 0 imported · 2 the file can't be read, or none of its rows can be used.

    Examples: sendtrace suppressions import ndnc.csv --as ndnc --region IN ·
    sendtrace suppressions import crm.csv --as unsubscribed --column "Email Address" ·
    sendtrace suppressions import exported.csv
    """
    from simulator.suppressions.files import FileOptions, open_address_file
    from simulator.suppressions.imports import ImportRequest, import_addresses

    parsed = parse_format_options(encoding=encoding, separator=separator, region=region)
    if as_ is SuppressionReason.NDNC and channel is None:
        channel = Channel.SMS
    options = FileOptions(column=column, channel=channel, **parsed)
    address_file = open_address_file(file, options)
    if as_ is None:
        given = {"column": column, "channel": channel, "region": region, "expires": expires}
        _require_export(address_file, given | {"count": count if count > 1 else None})
    with open_list(database, organization, may_be_new=True) as (record, name):
        expires_at = parse_expiry_option(expires)
        request = ImportRequest(
            organization=name, reason=as_, count=count, expires_at=expires_at, region=options.region
        )
        lines = ProgressLines(partial(print, file=sys.stderr, flush=True))
        counts = import_addresses(record, address_file, request, lines.counter("recipients read"))
    _report_import(file, name, counts)


@app.command()
@exit_on_error
def export(
    organization: OrganizationOption = None,
    channel: ChannelOption = None,
    reason: ReasonOption = None,
    database: DatabaseOption = None,
) -> None:
    """Write a suppression list to stdout as CSV, which `import` reads again.

    Examples: sendtrace suppressions export > list.csv ·
    sendtrace suppressions export --channel sms --reason ndnc > ndnc.csv
    """
    from simulator.suppressions.files import EXPORT_COLUMNS
    from tracker.csv_cells import CsvWriter
    from tracker.record.suppressions.entries import read_entries

    with open_list(database, organization) as (record, name), record.read() as connection:
        writer = CsvWriter(sys.stdout, lineterminator="\n")
        writer.write_row(EXPORT_COLUMNS)
        for entry in read_entries(connection, select(name, channel, reason, None)):
            row = make_row(entry, is_exact=True)
            writer.write_row("" if row[name] is None else row[name] for name in EXPORT_COLUMNS)


def _require_export(file: "AddressFile", options: Mapping[str, object]) -> None:
    """Raise UsageError unless a file is an export, and is read without any of these options."""
    if not file.is_export:
        raise UsageError(f"{file.path}: not an export of a suppression list; expected --as REASON")
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name}: expected with --as only; an export is read without it")


def _report_import(file: Path, organization: str, counts: "ImportCounts") -> None:
    """Print the counts of an import; raise UsageError if no row could be used."""
    rejected, causes = counts.rejected, [*counts.describe_causes()]
    if counts.rows == rejected:
        problem = f"none of {pluralize(rejected, 'row')} can be used" if rejected else "no rows"
        raise UsageError("\n".join((f"{file}: {problem}", *causes)))
    _print(
        f"{organization}: {counts.added:,} added, {counts.already_listed:,} already there,"
        f" {rejected:,} rejected"
    )
    for cause in causes:
        _print(cause, file=sys.stderr)


def _print(text: str, file: Any = None) -> None:
    print(escape_control_characters(text), file=file)
