"""The time that each check took, recorded with the steps that ran it."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from tracker.clock import from_seconds, to_seconds
from tracker.store.schema.work import steps

MIN_RECORDED_SECONDS = 0.001
"""Time of all checks of a step together from which it is worth a record."""


class CheckTime(NamedTuple):
    """The estimated number of calls of a check, and the real seconds that they took."""

    calls: float
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
        {name: [round(time.calls), from_seconds(time.seconds)] for name, time in times.items()}
    )


def read_check_times(
    connection: Connection, campaign_ids: Sequence[int]
) -> dict[int, dict[str, CheckTime]]:
    """Return the time of each check on record, by campaign id and the check's name."""
    times: defaultdict[int, dict[str, CheckTime]] = defaultdict(dict)
    query = sa.select(steps.c.campaign_id, steps.c.check_times).where(
        steps.c.campaign_id.in_(campaign_ids), steps.c.check_times.is_not(None)
    )
    for campaign_id, text in connection.execute(query):
        by_check = times[campaign_id]
        for name, (calls, micros) in json.loads(text).items():
            time = CheckTime(calls, to_seconds(micros))
            by_check[name] = by_check.get(name, CheckTime(0, 0.0)) + time
    return dict(times)


def sum_check_times(connection: Connection, campaign_ids: Sequence[int]) -> dict[str, CheckTime]:
    """Return the time that each check took in all of some campaigns, the longest first."""
    total: dict[str, CheckTime] = {}
    for by_check in read_check_times(connection, campaign_ids).values():
        for name, time in by_check.items():
            total[name] = total.get(name, CheckTime(0, 0.0)) + time
    return dict(sorted(total.items(), key=lambda item: -item[1].seconds))
