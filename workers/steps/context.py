"""What every step function is given."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from tracker.clock import Instant
from tracker.record.catalog import Batch, Campaign
from tracker.record.check_times import CheckTime
from tracker.record.journal import Author, Entry, open_entry
from tracker.record.monitoring.counters import Counters
from tracker.status import Step
from tracker.store.database import Database


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """The messages that a step works on, and what it needs to record its work.

    Attributes:
        batch: the messages: a whole batch, or one segment of it.
        author: the worker and the task that the record names.
        is_last_try: whether no retry follows; a service that is still unavailable then counts as
            failed.
        unavailable_count: how many times in a row the gateway was unavailable before this step.
        unavailable_since: time of the first of these failures; None without any.
        announce_check: records which check runs, None for none any more; absent unless the message
            is a suspect, which may have killed the process that worked on it.
        counters: additions that the step's entry records.
    """

    database: Database
    batch: Batch
    author: Author
    is_last_try: bool = False
    unavailable_count: int = 0
    unavailable_since: Instant | None = None
    announce_check: Callable[[str | None], None] | None = None
    counters: Counters | None = None

    @property
    def campaign(self) -> Campaign:
        """The campaign of the messages."""
        return self.batch.campaign

    def now(self) -> Instant:
        """Return the time on the campaign's clock."""
        return self.campaign.clock.now()

    def entry(
        self,
        step: Step,
        *,
        started_at: Instant,
        check_times: Mapping[str, CheckTime] | None = None,
    ) -> AbstractContextManager[Entry]:
        """Return a journal entry for a step that began at `started_at` and ran checks, if any."""
        return open_entry(
            self.database,
            self.batch,
            step,
            self.author,
            started_at=started_at,
            check_times=check_times,
            counters=self.counters,
        )

    def narrowed(self, first: int, size: int) -> "StepContext":
        """Return the context of `size` messages of the batch, from number `first` on."""
        return replace(self, batch=replace(self.batch, first=first, size=size))
