"""The simulated gateway: accepts everything once, and has an answer for each after a while."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from simulator import ledger
from simulator.fates import Behaviour, Inclination, deeds, is_malformed, outcomes
from tracker.catalog import Batch
from tracker.clock import Instant
from tracker.database import Database
from tracker.engagement import Event
from tracker.receipts import Receipt
from tracker.status import Engagement, Status
from workers.gateways.base import Delivered, Handover, News, Submission

KIND = "simulated"
"""Its name among the entry points."""

NOT_DELIVERED = np.int64(-(2**62))
"""Stands where a message of the range has not reached its recipient."""


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
        """What the recipients did from ``since`` to ``now``: each has done it all in advance."""
        numbers, instants = self._recipients(delivered)
        if not len(numbers):
            return News([])
        first = int(numbers.min())
        count = int(numbers.max()) - first + 1
        done = deeds(
            self._settings.inclination, self._settings.seed, batch.campaign.name, first, count
        )
        delivered_at = np.full(count, NOT_DELIVERED)
        delivered_at[numbers - first] = instants
        reached = delivered_at[done.places] != NOT_DELIVERED
        at = (delivered_at[done.places] + done.after)[reached]
        out = (at >= since) & (at <= now)
        events = zip(
            (done.places[reached][out] + first).tolist(),
            done.kinds[reached][out].tolist(),
            at[out].tolist(),
            strict=True,
        )
        later = at[at > now]
        return News(
            [Event(number, Engagement(kind), instant) for number, kind, instant in events],
            int(later.min()) if len(later) else None,
        )

    def _recipients(self, delivered: Delivered) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers and instants of what was delivered and stays so: of these somebody hears.

        The prediction's side of it is in :func:`simulator.results.compare`.
        """
        return np.asarray(delivered.numbers, np.int64), np.asarray(delivered.at, np.int64)
