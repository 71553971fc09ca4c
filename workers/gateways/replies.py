"""Turn the replies to the messages of a submission into its result."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from tracker.clock import Instant
from tracker.record.receipts import Receipt
from tracker.replies import ReplyKind, ReplyRule, parse_rules
from tracker.status import Status
from workers.gateways.base import MAX_REFUSALS, Refusal, Submission, SubmissionResult
from workers.message.rendering import MessageFailed

BOUNCES = {ReplyKind.HARD: Status.HARD_BOUNCED, ReplyKind.SOFT: Status.SOFT_BOUNCED}
"""Outcomes of messages whose reply is about the recipient."""


class Reply(Protocol):
    """A reply to one message; its text begins with its codes. A code of 0 stands for no reply."""

    @property
    def code(self) -> int:
        """The code of the reply."""
        ...

    @property
    def is_temporary(self) -> bool:
        """True if a later try may succeed."""
        ...

    def outcome(self, rules: Sequence[ReplyRule]) -> ReplyKind | None:
        """Return what the reply says of a message that wasn't accepted; None if it was.

        The rules of the scenario come before those of the gateway.
        """
        ...


class SubmissionReplies:
    """The replies to the messages of a submission so far, in their order."""

    def __init__(self, submission: Submission, *, is_delivery: bool = True) -> None:
        """Begin without replies.

        Args:
            is_delivery: whether an accepted message counts as delivered, without a receipt.
        """
        self._attempt = submission.attempt
        self._clock = submission.campaign.clock
        self._is_delivery = is_delivery
        self._rules = parse_rules(submission.campaign.replies)
        self._accepted: defaultdict[Instant, list[int]] = defaultdict(list)
        self._receipts: list[Receipt] = []
        self._unconfirmed: list[int] = []
        self._refused: dict[int, Refusal] = {}
        self._refusals_in_a_row = 0
        self._failed: dict[int, str] = {}

    @property
    def is_worth_recording(self) -> bool:
        """True if a message was handed over, accepted or not, or can't be made."""
        return bool(self._accepted or self._failed)

    @property
    def is_refusing(self) -> bool:
        """True if the gateway has refused MAX_REFUSALS messages in a row."""
        return self._refusals_in_a_row >= MAX_REFUSALS

    def classify(self, reply: Reply) -> ReplyKind | None:
        """Return what a reply says of a message that wasn't accepted; None if it was."""
        return reply.outcome(self._rules)

    def add(self, number: int, reply: Reply) -> None:
        """Add the reply to a message, which came now."""
        at = self._clock.now()
        if not reply.code:
            self._accepted[at].append(number)
            self._unconfirmed.append(number)
            return
        kind = self.classify(reply)
        if kind is ReplyKind.US:
            self._refusals_in_a_row += 1
            self._refused[number] = Refusal(at, str(reply), reply.is_temporary)
            return
        if kind is None:
            self._refusals_in_a_row = 0
        self._accepted[at].append(number)
        if kind is None and not self._is_delivery:
            return
        status = Status.DELIVERED if kind is None else BOUNCES[kind]
        self._receipts.append(Receipt(number, self._attempt, status, at, detail=str(reply)))

    def add_failed(self, number: int, error: MessageFailed) -> None:
        """Add a message that couldn't be made."""
        self._failed[number] = str(error)

    def result(self) -> SubmissionResult:
        """Return the result of the submission."""
        return SubmissionResult(
            self._accepted,
            self._receipts,
            refused=self._refused,
            unconfirmed=self._unconfirmed,
            failed=self._failed,
        )
