"""Load what a rule knows of customers from a source of its own, once a batch."""

from collections.abc import Callable, Mapping, Sequence
from reprlib import repr as shorten
from typing import Any

from tracker.errors import SendtraceError
from tracker.record.catalog import Campaign
from tracker.text import describe_error
from workers.candidates import Candidate, Customer, DataUnavailable
from workers.services import base as services

SourceLoader = Callable[[Campaign, Sequence[Customer]], Mapping[int, Any]]
"""A function that returns a rule's data by customer number: (campaign, customers of a batch).

It raises `ServiceUnavailable` if the step should be repeated later.
"""


class SourceFailed(SendtraceError):
    """The source of a rule raised an error on every call; the cause is the last error."""


class SourceData:
    """The data of a rule's source for a batch, loaded when the first value is needed.

    A source that raises is called again, as often as a service. Then the rule fails with
    `SourceFailed`.
    """

    def __init__(
        self, load: SourceLoader, candidates: Sequence[Candidate], *, is_last_try: bool
    ) -> None:
        self._load = load
        self._candidates = candidates
        self._is_last_try = is_last_try
        self._result: Mapping[int, Any] | BaseException | None = None

    def get(self, number: int) -> Any:
        """Return the value of a customer, or None if the source has none."""
        if self._result is None:
            self._result = self._call()
        if isinstance(self._result, BaseException):
            raise SourceFailed(describe_error(self._result)) from self._result
        return self._result.get(number)

    def _call(self) -> Mapping[int, Any] | BaseException:
        """Return what the source returns, or its last error if it keeps failing."""
        campaign = self._candidates[0].campaign
        loaded_customers = [candidate.customer for candidate in self._candidates]
        failure: BaseException
        for _ in services.count_calls(is_last_try=self._is_last_try):
            try:
                return _validate_data(self._load(campaign, loaded_customers))
            except services.ServiceUnavailable as error:
                if not self._is_last_try:
                    raise DataUnavailable from error
                return error
            except (Exception, SystemExit) as error:  # another package may raise anything
                failure = error
        return failure


def _validate_data(data: object) -> Mapping[int, Any]:
    if not isinstance(data, Mapping):
        raise TypeError(f"source returned {shorten(data)}; expected a mapping by customer number")
    return data
