"""The simulated gateway: accepts everything once, and has an answer for each after a while."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from simulator import ledger
from simulator.fates import Behaviour, Inclination, engaged, is_malformed, outcomes
from tracker.catalog import Batch
from tracker.clock import Instant
from tracker.database import Database
from tracker.engagement import Event
from tracker.receipts import Receipt
from tracker.status import REFUSALS, Status
from workers.gateways.base import Delivered, Handover, News, Submission

KIND = "simulated"
"""Its name among the entry points."""


class Settings(BaseModel):
    """What is recorded of a simulated gateway."""

    model_config = ConfigDict(frozen=True)

    seed: int
    behaviour: Behaviour
    inclination: Inclination = Inclination()


class SimulatedGateway:
    """A gateway behind the workers' protocol whose every answer follows from the seed."""

    def __init__(self, settings: str, database: Database) -> None:
        self._settings = Settings.model_validate_json(settings)
        self._database = database
        ledger.prepare(database)

    def submit(self, submission: Submission, now: Instant) -> Handover:
        """Accept all of it. What was accepted before keeps its moment, outcome and receipt."""
        numbers = np.asarray(submission.numbers, np.int64)
        first = int(numbers.min())
        statuses, latencies = outcomes(
            self._settings.behaviour,
            self._settings.seed,
            submission.campaign.name,
            submission.attempt,
            first,
            int(numbers.max()) - first + 1,
        )
        statuses, latencies = statuses[numbers - first], latencies[numbers - first]
        channel = submission.campaign.channel
        for place, recipient in enumerate(submission.recipients):
            if is_malformed(channel, recipient):
                statuses[place] = Status.HARD_BOUNCED
        earlier = ledger.accept(
            self._database,
            submission.campaign.id,
            submission.attempt,
            numbers=submission.numbers,
            outcomes=statuses.tolist(),
            due_at=(latencies + now).tolist(),
            at=now,
        )
        if not earlier:
            return Handover({now: submission.numbers})
        accepted: defaultdict[Instant, list[int]] = defaultdict(list)
        for number in submission.numbers:
            accepted[earlier.get(number, now)].append(number)
        return Handover(accepted)

    def receipts(
        self, batch: Batch, awaited: Mapping[int, Sequence[int]], now: Instant
    ) -> News[Receipt]:
        """The answers that are out by ``now``."""
        receipts: list[Receipt] = []
        dues: list[Instant] = []
        for attempt, numbers in awaited.items():
            answers = ledger.answers(self._database, batch.campaign.id, attempt, numbers, now)
            receipts += (Receipt(each, attempt, status, at) for each, status, at in answers.out)
            if answers.next_due is not None:
                dues.append(answers.next_due)
        return News(receipts, min(dues, default=None))

    def engagement(
        self, batch: Batch, delivered: Delivered, since: Instant, now: Instant
    ) -> News[Event]:
        """Who marks a message as spam or unsubscribes does so at once."""
        numbers = delivered.numbers
        if not numbers:
            return News([])
        first = min(numbers)
        does = engaged(
            self._settings.inclination,
            self._settings.seed,
            batch.campaign.name,
            first,
            max(numbers) - first + 1,
        )
        return News(
            [
                Event(number, kind, at)
                for kind in sorted(REFUSALS)
                for number, at in zip(*delivered, strict=True)
                if does[kind][number - first]
            ]
        )
