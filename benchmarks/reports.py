"""The report beside the plain query that it replaces, on the rows of one finished run."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from statistics import median

import sqlalchemy as sa

from tracker.queries.report import make_reports
from tracker.record import catalog
from tracker.store.database import Database, connect
from tracker.store.schema.messages import messages

TIMING_COUNT = 7
"""Timings of each side, after one that warms up."""

CAMPAIGN_ID = 1
"""The only campaign of a fresh database."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Median seconds of the report, and of counting the messages themselves."""

    messages: int
    report: float
    group_by: float


def time_report(url: str) -> Timed:
    """Time both sides in turn. The query may use the database's best plan: see ``read_only_analytics()``."""
    with closing(connect(url)) as database:
        database.analyze()
        with database.read() as connection:
            campaign = catalog.load_campaign(connection, CAMPAIGN_ID)
        counted = 0
        report, group_by = list[float](), list[float]()
        for _ in range(1 + TIMING_COUNT):
            seconds, audience = _time_report(database, campaign)
            report.append(seconds)
            seconds, counted = _time_group_by(database)
            group_by.append(seconds)
            assert audience == counted, "both sides count the same messages"
    return Timed(messages=counted, report=median(report[1:]), group_by=median(group_by[1:]))


def _time_report(database: Database, campaign: catalog.Campaign) -> tuple[float, int]:
    with database.read() as connection:
        return _time_call(lambda: make_reports(connection, [campaign])[0].audience)


def _time_group_by(database: Database) -> tuple[float, int]:
    query = (
        sa.select(messages.c.status, messages.c.reason, sa.func.count())
        .where(messages.c.campaign_id == CAMPAIGN_ID)
        .group_by(messages.c.status, messages.c.reason)
    )
    with database.read_only_analytics() as connection:
        return _time_call(lambda: sum(row[2] for row in connection.execute(query)))


def _time_call(ask: Callable[[], int]) -> tuple[float, int]:
    began = time.perf_counter()
    answer = ask()
    return time.perf_counter() - began, answer
