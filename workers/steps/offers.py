"""What a step offers to a gateway, noted before the gateway is called."""

from sqlalchemy import Connection

from tracker.record.actions.submissions import begin_submission, end_submissions
from workers.gateways.base import Submission
from workers.steps.context import StepContext


class NotedOffers:
    """The offers of a step. Of a cancelled campaign, only what is noted already is offered."""

    def __init__(self, context: StepContext) -> None:
        self._context = context
        self._ids: list[int] = []

    def note(self, submission: Submission) -> bool:
        """Note an offer; return whether it may be made: not if the campaign is cancelled now."""
        if self._context.campaign.cancelled_at is not None:
            return True
        offer = begin_submission(
            self._context.database,
            self._context.batch,
            attempt=submission.attempt,
            numbers=submission.numbers,
        )
        if offer is not None:
            self._ids.append(offer)
        return offer is not None

    def delete(self, connection: Connection | None = None) -> None:
        """Delete the notes: with the answers in their transaction, or after none was accepted."""
        ids, self._ids = self._ids, []
        if connection is not None:
            end_submissions(connection, ids)
        elif ids:
            with self._context.database.write() as own_connection:
                end_submissions(own_connection, ids)
