"""Load what a rule knows of customers from a source of its own, once a batch."""

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from tracker.record.catalog import Campaign
from workers.candidates import Candidate, Customer, DataUnavailable
from workers.services import base as services

SourceLoader = Callable[[Campaign, Sequence[Customer]], Mapping[int, Any]]
"""A function that returns a rule's data by customer number: (campaign, customers of a batch).

It raises `ServiceUnavailable` if the step should be repeated later.
"""


class SourceData:
    """The data of a rule's source for a batch, loaded when the first value is needed.

    A source that raises is called again, as often as a service. Then the rule fails with its error.

    Attributes:
        load_seconds: the time that loading took, with all calls of the source.
    """

    def __init__(
        self, load: SourceLoader, candidates: Sequence[Candidate], *, is_last_try: bool
    ) -> None:
        self._load = load
        self._candidates = candidates
        self._is_last_try = is_last_try
        self._data: Mapping[int, Any] | None = None
        self._error: Exception | None = None
        self._traceback: TracebackType | None = None
        self.load_seconds = 0.0

    def get(self, number: int) -> Any:
        """Return the value of a customer, or None if the source has none."""
        if self._error is not None:
            # Each raise adds to the traceback of the error, and a batch raises it for each message.
            raise self._error.with_traceback(self._traceback)
        if self._data is None:
            started = time.perf_counter()
            try:
                self._data = self._call()
            except services.ServiceUnavailable as error:
                if not self._is_last_try:
                    raise DataUnavailable from error
                self._error, self._traceback = error, error.__traceback__
                raise
            except Exception as error:
                self._error, self._traceback = error, error.__traceback__
                raise
            finally:
                self.load_seconds += time.perf_counter() - started
        return self._data.get(number)

    def _call(self) -> Mapping[int, Any]:
        campaign = self._candidates[0].campaign
        loaded_customers = [candidate.customer for candidate in self._candidates]
        for delay_seconds in services.RETRY_DELAYS_SECONDS:
            try:
                return self._load(campaign, loaded_customers)
            except Exception:  # a source of another package may raise anything
                time.sleep(delay_seconds)
        return self._load(campaign, loaded_customers)
