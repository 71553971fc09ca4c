"""Load what a rule knows of customers from a source of its own, once a batch."""

import time
from collections.abc import Callable, Mapping, Sequence
from reprlib import repr as shorten
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
        error: why the data can't be loaded; None unless the source keeps failing.
        load_seconds: the time that loading took, with all calls of the source.
    """

    def __init__(
        self, load: SourceLoader, candidates: Sequence[Candidate], *, is_last_try: bool
    ) -> None:
        self._load = load
        self._candidates = candidates
        self._is_last_try = is_last_try
        self._data: Mapping[int, Any] = {}
        self._is_loaded = False
        self._traceback: TracebackType | None = None
        self.error: BaseException | None = None
        self.load_seconds = 0.0

    def get(self, number: int) -> Any:
        """Return the value of a customer, or None if the source has none."""
        if not self._is_loaded:
            started = time.perf_counter()
            try:
                self._call()
            finally:
                self.load_seconds += time.perf_counter() - started
        if self.error is not None:
            # Each raise adds to the traceback of the error, and a batch raises it for each message.
            raise self.error.with_traceback(self._traceback)
        return self._data.get(number)

    def _call(self) -> None:
        campaign = self._candidates[0].campaign
        loaded_customers = [candidate.customer for candidate in self._candidates]
        for _ in services.count_calls(is_last_try=self._is_last_try):
            try:
                self._data = _validate_data(self._load(campaign, loaded_customers))
                self.error = None
                break
            except services.ServiceUnavailable as error:
                if not self._is_last_try:
                    raise DataUnavailable from error
                self.error, self._traceback = error, error.__traceback__
                break
            except (Exception, SystemExit) as error:  # another package may raise anything
                self.error, self._traceback = error, error.__traceback__
        self._is_loaded = True


def _validate_data(data: object) -> Mapping[int, Any]:
    if not isinstance(data, Mapping):
        raise TypeError(f"source returned {shorten(data)}; expected a mapping by customer number")
    return data
