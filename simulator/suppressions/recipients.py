"""Parse email addresses and mobile numbers of suppression lists."""

from datetime import date, datetime, time, timedelta, tzinfo

from simulator.audience.cleaning import clean_cell, strip_invisible
from simulator.audience.numbers import parse_mobile_cell
from simulator.audience.problems import MobileProblem
from simulator.forced import find_email_key, find_mobile_key
from tracker.clock import Instant, from_datetime
from tracker.csv_cells import unescape_cell
from tracker.record.suppressions.entries import Recipient
from tracker.status import Channel, DescribedSlug, SuppressionReason
from workers.addresses import is_well_formed
from workers.mobile import NumberRule

MAX_SHOWN_CHARACTERS = 60
"""Characters of a wrong value that an error shows."""

FIRST_YEAR, LAST_YEAR = 1970, 2099


class AddressProblem(DescribedSlug):
    """A cause for which an address can't be on a list."""

    EMPTY = "empty", "no address"
    MALFORMED = "malformed", "not an email address that a mail server could accept"
    FORCED = "forced_outcome", "an address that forces an outcome, and is never compared"
    WRONG_VALUE = "wrong_value", "a value that the column can't have"


class UnusableEntry(ValueError):
    """An entry can't be on a list. The message says why."""

    def __init__(self, cause: AddressProblem | MobileProblem, message: str) -> None:
        super().__init__(message)
        self.cause = cause


def parse_recipient(text: str, channel: Channel | None, region: str = "") -> Recipient:
    """Return the recipient that a text names, as it is compared.

    Args:
        text: an email address or a mobile number.
        channel: None for the one that the text suggests.
        region: ISO 3166 code of the country of national numbers, or an empty text.

    Raises:
        UnusableEntry: it names none, or one that is never compared.
    """
    cell = clean_cell(unescape_cell(strip_invisible(text, keep_joiners=True).strip()))
    if not is_well_formed(cell):  # the domain of a well-formed address may need its joiners
        cell = clean_cell(unescape_cell(strip_invisible(text, keep_joiners=False).strip()))
    if not cell:
        raise UnusableEntry(AddressProblem.EMPTY, "no address")
    quoted = repr(cell[:MAX_SHOWN_CHARACTERS])
    if channel is None:
        channel = Channel.EMAIL if "@" in cell else Channel.SMS
    if channel is Channel.EMAIL:
        if not is_well_formed(cell):
            raise UnusableEntry(
                AddressProblem.MALFORMED, f"got {quoted}; expected an email address"
            )
        key = find_email_key(cell)
    else:
        number, problem = parse_mobile_cell(cell, region, NumberRule.VALID)
        if number is None:
            cause = problem if isinstance(problem, MobileProblem) else MobileProblem.INVALID
            raise UnusableEntry(cause, f"got {quoted}: {cause.meaning}")
        key = find_mobile_key(number)
    if key is None:
        raise UnusableEntry(AddressProblem.FORCED, f"got {quoted}, which forces an outcome")
    return Recipient(channel, key)


def check_reason(reason: SuppressionReason, channel: Channel) -> None:
    """Raise UnusableEntry if a reason doesn't exist on a channel."""
    if reason is SuppressionReason.NDNC and channel is not Channel.SMS:
        raise UnusableEntry(
            AddressProblem.WRONG_VALUE, "got an email address; ndnc is for mobile numbers only"
        )


def parse_expiry(text: str, zone: tzinfo) -> Instant:
    """Return the instant at which an entry expires: after a day, or at a time with its offset.

    Raises:
        ValueError: the text is neither. The message says what is expected.
    """
    try:
        day = datetime.combine(date.fromisoformat(text), time(), zone)
    except ValueError:
        return parse_time(text)
    _to_instant(day)
    return _to_instant(day + timedelta(days=1))  # midnight, even if the clocks change


def parse_time(text: str) -> Instant:
    """Return the instant of a time with its offset from UTC, or raise ValueError."""
    expected = "expected YYYY-MM-DD, or a time like 2027-01-31T12:00:00+00:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"not a date; {expected}") from None
    if moment.tzinfo is None:
        raise ValueError(f"a time without its offset from UTC; {expected}")
    return _to_instant(moment)


def _to_instant(moment: datetime) -> Instant:
    if not FIRST_YEAR < moment.year <= LAST_YEAR:
        raise ValueError(f"out of range; expected a year from {FIRST_YEAR + 1} to {LAST_YEAR}")
    return from_datetime(moment)
