"""What the commands on suppression lists share: the opened list, its selection, and its rows."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from tracker.clock import to_datetime
from tracker.commands import open_database
from tracker.errors import UsageError
from tracker.settings import load_settings
from tracker.status import Channel, SuppressionReason
from tracker.text import suggest_similar

if TYPE_CHECKING:
    from tracker.record.suppressions.entries import Recipient, Selection, Suppression
    from tracker.store.database import Database


@contextmanager
def open_list(
    url: str | None, organization: str | None, *, may_be_new: bool = False
) -> "Iterator[tuple[Database, str]]":
    """Open the database, and find out whose list is meant.

    Args:
        url: the database; None for the configured one.
        organization: the name that was given.
        may_be_new: whether the database and the list are made if they don't exist.
    """
    from simulator import schema
    from simulator.values import validate_list_name
    from tracker.record.suppressions.entries import list_organizations

    if may_be_new:
        settings = load_settings(database_url=url)
        settings.prepare_home()
        opened: Any = closing(schema.open_database(settings))
    else:
        opened = open_database(url, schema.check_all_tables)
    with opened as record, record.readable_errors():
        with record.read() as connection:
            names = list_organizations(connection)
        if organization is None:
            if len(names) != 1:
                problem = f"one of {', '.join(names)}" if names else "the name of an organization"
                raise UsageError(f"--organization: missing; expected {problem}")
            [organization] = names
        elif organization not in names:
            if not may_be_new:
                raise UsageError(
                    f"--organization {organization}: keeps no list"
                    f"{suggest_similar(organization, names)}"
                )
            try:
                validate_list_name(organization)
            except ValueError as error:
                raise UsageError(f"--organization: {error}") from None
        yield record, organization


def parse_recipients(
    addresses: list[str], channel: Channel | None, region: str | None
) -> "list[Recipient]":
    """Return different recipients, or raise UsageError for the first that can't be used."""
    from simulator.cli.audience import parse_format_options
    from simulator.suppressions.recipients import UnusableEntry, parse_recipient

    country = parse_format_options(region=region).get("region", "")
    recipients: dict[Recipient, None] = {}
    for text in addresses:
        try:
            recipients[parse_recipient(text, channel, country)] = None
        except UnusableEntry as error:
            raise UsageError(str(error)) from None
    return [*recipients]


def select(
    organization: str,
    channel: Channel | None,
    reason: SuppressionReason | None,
    addresses: list[str] | None,
    region: str | None = None,
) -> "Selection":
    """Return the selection of entries that the options of a command make."""
    from simulator.suppressions.erasure_key import KEY_FILE, load_key
    from tracker.record.suppressions.entries import Selection

    recipients = parse_recipients(addresses, channel, region) if addresses else None
    home = load_settings().home
    if recipients is not None and (home / KEY_FILE).exists():
        recipients += map(load_key(home), [*recipients])  # those of erased customers
    return Selection(
        organization=organization, channel=channel, reason=reason, recipients=recipients
    )


def parse_expiry_option(text: str | None) -> int | None:
    """Return the instant that --expires names, or raise UsageError; None without a text."""
    from simulator.suppressions.recipients import parse_expiry

    try:
        return None if text is None else parse_expiry(text, load_settings().zone)
    except ValueError as error:
        raise UsageError(f"--expires {text}: {error}") from None


def make_row(entry: "Suppression", *, is_exact: bool) -> Mapping[str, object]:
    """Return the columns of an entry, with times in UTC, or for people in the settings' zone."""

    def format_time(instant: int | None) -> str | None:
        if instant is None:
            return None
        moment = to_datetime(instant)
        if is_exact:
            return moment.isoformat()
        return f"{moment.astimezone(load_settings().zone):%Y-%m-%d %H:%M}"

    return {
        "address": entry.recipient.address,
        "channel": entry.recipient.channel.value,
        "reason": entry.reason.value,
        "count": entry.count,
        "source": entry.source,
        "since": format_time(entry.since),
        "expires": format_time(entry.expires_at),
    }
