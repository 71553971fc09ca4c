"""The items of reports: their fields, and the causes for which an item is refused."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from tracker.clock import Instant
from tracker.record.details import MAX_DETAIL_LENGTH, clean_text
from tracker.record.due import DueKind
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import MAX_BIGINT, Receipt
from tracker.status import Engagement, Status
from tracker.store.schema.integers import MAX_INTEGER

EARLIEST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_TIME = datetime(2100, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

_DIGITS = re.compile("[0-9]{1,19}")

_NUMBER = re.compile(r"\s*[-+]?[0-9.]+\s*")


def _parse_digits(value: object) -> object:
    """Return the number that a text of digits stands for, any other value as it is."""
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value


def _refuse_number(value: object) -> object:
    """Return a text that may be a time. A number doesn't say its unit, nor do its digits."""
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        return value
    raise ValueError("expected ISO 8601 with a zone, such as 2026-11-24T12:00:00Z")


def _check_time(at: datetime) -> datetime:
    if EARLIEST_TIME <= at <= LATEST_TIME:
        return at
    raise ValueError(f"got the year {at.year}; expected {EARLIEST_TIME.year}-{LATEST_TIME.year}")


ReportedNumber = BeforeValidator(_parse_digits, json_schema_input_type=int | str)
ReportedTime = Annotated[
    AwareDatetime, Field(strict=False), BeforeValidator(_refuse_number), AfterValidator(_check_time)
]


class _InboundItem(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    due_kind: ClassVar[DueKind]

    campaign: Annotated[int, Field(ge=1, le=MAX_INTEGER), ReportedNumber] = Field(
        description="the campaign's id"
    )
    number: Annotated[int, Field(ge=0, le=MAX_BIGINT), ReportedNumber] = Field(
        description="the message's number in its campaign"
    )
    at: ReportedTime = Field(
        description="time of the event, ISO 8601 with a zone, by the clock of the campaign's run"
    )


class ReceiptIn(_InboundItem):
    """The outcome of an attempt at a message."""

    due_kind = DueKind.RECEIPTS

    attempt: Annotated[int, Field(ge=1, le=MAX_BIGINT), ReportedNumber] = Field(
        description="the attempt that the gateway was given"
    )
    status: Literal["delivered", "hard_bounced", "soft_bounced", "not_delivered"] = Field(
        description="outcome of the attempt"
    )
    detail: str | None = Field(
        None, max_length=10 * MAX_DETAIL_LENGTH, description="a code or text, such as 5.1.1"
    )

    def to_item(self, at: Instant) -> Receipt:
        """Return the receipt as it is stored, with an instant instead of its own time."""
        status = Status[self.status.upper()]
        return Receipt(self.number, self.attempt, int(status), at, detail=self.detail)


class EngagementIn(_InboundItem):
    """An action of the recipient of a message."""

    due_kind = DueKind.ENGAGEMENT

    kind: Literal["opened", "clicked", "spam", "unsubscribed"] = Field(
        description="action of the recipient; an SMS can't be `opened`"
    )

    def to_item(self, at: Instant) -> EngagementEvent:
        """Return the event as it is stored, with an instant instead of its own time."""
        return EngagementEvent(self.number, Engagement[self.kind.upper()], at)


InboundItem = ReceiptIn | EngagementIn
ItemType = type[ReceiptIn] | type[EngagementIn]


class RefusedItem(BaseModel):
    """An item of a report that was refused, in the form of other validation errors."""

    loc: list[str | int] = Field(description="`body`, the item's place from 0, and its field")
    msg: str = Field(description="the cause")
    type: str = Field(description="kind of the cause, for programs")


def refuse_item(
    place: int, field: Sequence[str | int], cause: str, kind: str = "value_error"
) -> RefusedItem:
    """Return the refusal of the item at a place of a report, for the cause in one of its fields."""
    names = [clean_text(name) or "" if isinstance(name, str) else name for name in field]
    return RefusedItem(
        loc=["body", place, *names], msg=cause.removeprefix("Value error, "), type=kind
    )


def parse_item(item_type: ItemType, place: int, value: object) -> InboundItem | RefusedItem:
    """Return the item that a value of a report's JSON stands for, or its refusal."""
    try:
        return item_type.model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return refuse_item(place, problem["loc"], problem["msg"], problem["type"])
