"""The time that each check took, recorded with the steps that ran it."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import from_seconds, to_seconds
from tracker.store.schema.work import steps

MIN_RECORDED_SECONDS = 0.001
"""Time of all checks of a step together from which it is worth a record."""

OVERLAP_STEPS = 1_000
"""Latest steps that are read again: PostgreSQL may show a later step before an earlier one."""

_RECORDED = sa.select(steps.c.id, steps.c.campaign_id, steps.c.check_times).where(
    steps.c.check_times.is_not(None)
)
"""The steps whose check times are on record."""


class CheckTime(NamedTuple):
    """The number of calls of a check, one for each message that it judged, and their seconds."""

    calls: int
    seconds: float

    def __add__(self, other: object) -> "CheckTime":
        """Return the sum of two times, not their concatenation."""
        if not isinstance(other, CheckTime):
            return NotImplemented
        return CheckTime(self.calls + other.calls, self.seconds + other.seconds)

    @property
    def seconds_per_call(self) -> float:
        """The mean of the seconds that a call takes."""
        return self.seconds / self.calls if self.calls else 0.0


def encode_check_times(times: Mapping[str, CheckTime]) -> str | None:
    """Return the times of a step's checks for its row, or None if they are too short to matter."""
    if sum(time.seconds for time in times.values()) < MIN_RECORDED_SECONDS:
        return None
    return json.dumps(
        {name: [time.calls, from_seconds(time.seconds)] for name, time in times.items()}
    )


class CheckTimeTotals:
    """The check times of campaigns, kept up to date by reading only the latest steps.

    Only the campaigns of the latest call are kept. For any other campaign, all steps are read
    again.
    """

    def __init__(self) -> None:
        self._totals: dict[int, dict[str, CheckTime]] = {}
        self._counted: dict[int, int] = {}
        self._counted_until = 0

    def read(
        self, connection: Connection, campaign_ids: Collection[int]
    ) -> dict[int, dict[str, CheckTime]]:
        """Return the time of each check on record, by campaign id and the check's name."""
        last: int = connection.scalar(sa.select(sa.func.max(steps.c.id))) or 0
        added = set(campaign_ids) - self._totals.keys()
        queries = [_RECORDED.where(steps.c.campaign_id.in_(added))] if added else []
        if self._totals:
            queries.append(_RECORDED.where(steps.c.id > self._counted_until))
        rows = [row for query in queries for row in connection.execute(query)]
        self._totals = {key: self._totals.get(key, {}) for key in campaign_ids}
        for step_id, campaign_id, text in rows:
            if campaign_id in self._totals and step_id not in self._counted:
                self._counted[step_id] = campaign_id
                _add_times(self._totals[campaign_id], text)
        self._counted_until = max(0, last - OVERLAP_STEPS)
        self._counted = {
            step_id: campaign_id
            for step_id, campaign_id in self._counted.items()
            if step_id > self._counted_until and campaign_id in self._totals
        }
        return {campaign_id: dict(self._totals[campaign_id]) for campaign_id in campaign_ids}


def _add_times(by_check: dict[str, CheckTime], text: str) -> None:
    for name, (calls, micros) in json.loads(text).items():
        time = CheckTime(calls, to_seconds(micros))
        by_check[name] = by_check.get(name, CheckTime(0, 0.0)) + time


def sum_check_times(connection: Connection, campaign_ids: Sequence[int]) -> dict[str, CheckTime]:
    """Return the time that each check took in all of some campaigns, the longest first."""
    total: dict[str, CheckTime] = {}
    for by_check in CheckTimeTotals().read(connection, campaign_ids).values():
        for name, time in by_check.items():
            total[name] = total.get(name, CheckTime(0, 0.0)) + time
    return dict(sorted(total.items(), key=lambda item: -item[1].seconds))
