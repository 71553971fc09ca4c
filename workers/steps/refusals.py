"""Tell whether refused messages are at fault themselves, or the gateway is unavailable.

A reply such as `relaying denied` says nothing about the recipient. But some servers send one for a
single message whose content they dislike, and accept all others.
"""

from collections import defaultdict
from collections.abc import Collection

import sqlalchemy as sa

from tracker.clock import Instant
from tracker.queries.acceptances import has_accepted_since
from tracker.record.journal import Move, State
from tracker.record.predicates import is_of_message_in, is_same_message
from tracker.record.receipts import Receipt
from tracker.status import Status
from tracker.store.schema.messages import messages, tallies, transition_details
from workers.gateways.base import (
    MAX_REFUSALS,
    REFUSES_MESSAGES,
    GatewayUnavailable,
    Refusal,
    SubmissionResult,
)
from workers.steps.context import StepContext

ONLY_THIS_MESSAGE = "refused for this message only: "
"""Beginning of the detail of a soft bounce whose reply refuses the sender."""

MIN_TRIES_ALONE, MIN_TRIES_ALONE_IF_TEMPORARY = 7, 3
"""Tries after which the last messages of a campaign are themselves at fault, if the gateway has
accepted others: about a minute, and five seconds for temporary replies."""


class Refusals:
    """The messages that a gateway refused in a step."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._refused: dict[int, tuple[State, Refusal]] = {}
        self._last_accepted_at: Instant | None = None

    def add(self, source: State, result: SubmissionResult) -> None:
        """Add the result of a submission of messages that were in a state."""
        for number, refusal in result.refused.items():
            self._refused[number] = (source, refusal)
        if self._refused:
            accepted_at = result.last_acceptance(self._context.now())
            if accepted_at is not None:
                self._last_accepted_at = max(accepted_at, self._last_accepted_at or accepted_at)

    @property
    def count(self) -> int:
        """The number of messages that were refused."""
        return len(self._refused)

    @property
    def is_gateway_refusing(self) -> bool:
        """True if the gateway refused the latest MAX_REFUSALS messages."""
        return len(self._unexplained()) >= MAX_REFUSALS

    def _unexplained(self) -> list[int]:
        """Return the messages after which no other one was accepted."""
        latest = self._last_accepted_at
        return [
            number
            for number, (_, refusal) in self._refused.items()
            if latest is None or refusal.at > latest
        ]

    def bounce(self, *, is_all: bool) -> tuple[list[Move], list[Receipt]]:
        """Return the soft bounces to record, for the messages that are themselves at fault.

        Args:
            is_all: whether no other message of the batch waits for submission.
        """
        if not self._refused:
            return [], []
        waiting = set(self._unexplained())
        if waiting:
            waiting -= self._refused_before(waiting)
        if waiting and is_all and (self._accepts_others() or self._are_refused_alone(waiting)):
            waiting = set()
        by_source: defaultdict[State, dict[int, Refusal]] = defaultdict(dict)
        for number, (source, refusal) in self._refused.items():
            if number not in waiting:
                by_source[source][number] = refusal
        moves = [
            Move(
                numbers=[*refused],
                source=source,
                target=State(status=Status.IN_GATEWAY, attempt=source.attempt + 1),
                at=[refusal.at for refusal in refused.values()],
            )
            for source, refused in by_source.items()
        ]
        receipts = [
            Receipt(
                number,
                source.attempt + 1,
                Status.SOFT_BOUNCED,
                refusal.at,
                detail=ONLY_THIS_MESSAGE + refusal.reply,
            )
            for source, refused in by_source.items()
            for number, refusal in refused.items()
        ]
        return moves, receipts

    def raise_if_refused(self) -> None:
        """Raise `GatewayUnavailable`, with the first reply, if the gateway refused a message."""
        for _, refusal in self._refused.values():
            raise GatewayUnavailable(f"{REFUSES_MESSAGES}{refusal.reply}")

    def _refused_before(self, numbers: Collection[int]) -> set[int]:
        """Return those of some messages whose previous attempt was refused for them only."""
        details = transition_details.c
        query = (
            sa.select(messages.c.number)
            .join(
                transition_details,
                sa.and_(
                    is_same_message(transition_details, messages),
                    details.attempt == messages.c.attempt,
                    details.status == messages.c.status,
                ),
            )
            .where(
                is_of_message_in(messages, self._context.batch),
                messages.c.number.in_(numbers),
                messages.c.status == Status.SOFT_BOUNCED,
                details.detail.startswith(ONLY_THIS_MESSAGE),
            )
        )
        with self._context.database.read() as connection:
            return set(connection.scalars(query))

    def _accepts_others(self) -> bool:
        """Return whether others were accepted since this batch was refused for the first time.

        The remaining messages of the batch were refused then and now, so they are at fault.
        """
        since = self._context.unavailable_since
        if since is None:
            return False
        with self._context.database.read() as connection:
            return has_accepted_since(connection, self._context.campaign, since)

    def _are_refused_alone(self, numbers: Collection[int]) -> bool:
        """Return whether the last messages of a campaign are refused, though others were accepted.

        No other message is left as a proof, so the record and the number of tries decide. While
        more messages than MAX_REFUSALS wait, the gateway counts as unavailable.
        """
        is_temporary = all(self._refused[number][1].is_temporary for number in numbers)
        tries = MIN_TRIES_ALONE_IF_TEMPORARY if is_temporary else MIN_TRIES_ALONE
        if self._context.unavailable_count < tries:
            return False
        counts = (
            sa.select(tallies.c.status, sa.func.sum(tallies.c.messages))
            .where(tallies.c.campaign_id == self._context.campaign.id, tallies.c.messages > 0)
            .group_by(tallies.c.status)
        )
        with self._context.database.read() as connection:
            by_status = dict(connection.execute(counts).all())
        is_accepting = not by_status.keys().isdisjoint((Status.IN_GATEWAY, Status.DELIVERED))
        return is_accepting and by_status.get(Status.ABOUT_TO_BE_SENT, 0) <= MAX_REFUSALS
