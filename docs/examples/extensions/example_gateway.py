"""A gateway that appends each message to a file."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from tracker.clock import Instant
from tracker.record.catalog import Batch
from tracker.record.engagement import EngagementEvent
from tracker.record.receipts import Receipt
from tracker.status import Channel, Status
from tracker.store.database import Database
from workers.gateways.base import (
    DeliveredMessages,
    GatewayUnavailable,
    PollResult,
    Submission,
    SubmissionResult,
)


class OutboxGateway:
    """A gateway for tests of what would be sent. It delivers everything at once."""

    network = False  # reaches no real people; the default is True
    channels = frozenset({Channel.EMAIL})  # the default is all channels

    def __init__(self, settings: str, database: Database) -> None:
        self._file = Path(os.environ.get("EXAMPLE_OUTBOX", "outbox.jsonl"))

    def submit(self, submission: Submission, now: Instant) -> SubmissionResult:
        """Append messages to the file, with the key by which a repeated one is recognized."""
        try:
            with self._file.open("a", encoding="utf-8") as outbox:
                for number, recipient in zip(
                    submission.numbers, submission.recipients, strict=True
                ):
                    key = f"{submission.campaign.id}-{number}-{submission.attempt}"
                    outbox.write(json.dumps({"key": key, "to": recipient}) + "\n")
        except OSError as error:
            raise GatewayUnavailable(f"{self._file}: {error.strerror}") from error
        receipts = [
            Receipt(number, submission.attempt, Status.DELIVERED, submission.campaign.clock.now())
            for number in submission.numbers
        ]
        return SubmissionResult(accepted=submission.numbers, receipts=receipts)

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> PollResult[Receipt]:
        """Return no receipts: `submit` has returned all of them."""
        return PollResult([])

    def engagement(
        self, batch: Batch, delivered: DeliveredMessages, since: Instant, now: Instant
    ) -> PollResult[EngagementEvent]:
        """Return no engagement: a file has no readers."""
        return PollResult([])
