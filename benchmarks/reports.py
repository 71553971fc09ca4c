"""The report beside the plain query that it replaces, on the rows of a finished run."""

from functools import partial

import sqlalchemy as sa
from sqlalchemy import Connection

from benchmarks.context import CAMPAIGN_ID, DatabaseBenchmark
from benchmarks.measures import Measure
from benchmarks.timing import time_in_turns
from tracker.queries.report import make_reports
from tracker.record.catalog import Campaign, load_campaign
from tracker.store.database import Database
from tracker.store.schema.messages import messages

TURNS = 7


def measure_report(
    bench: DatabaseBenchmark, database: Database, at_least: float | None = None
) -> None:
    """Measure the report and the `GROUP BY`, each over one connection."""
    database.analyze()
    with database.read() as reader, database.read_only_analytics() as analytics:
        campaign = load_campaign(reader, CAMPAIGN_ID)
        count = _count_messages(analytics)
        assert _read_audience(reader, campaign) == count, "both count the same messages"
        report, group_by = time_in_turns(
            partial(_read_audience, reader, campaign), partial(_count_messages, analytics), TURNS
        )
    bench.reports.append({"messages": count, "report": report, "group_by": group_by})
    measure = Measure("GROUP BY ÷ report", at_least=at_least)
    bench.add_line(measure.compare_seconds(report, group_by, detail=f"{count:,}"))


def _read_audience(connection: Connection, campaign: Campaign) -> int:
    [report] = make_reports(connection, [campaign])
    return report.recorded


def _count_messages(connection: Connection) -> int:
    query = (
        sa.select(messages.c.status, messages.c.reason, sa.func.count())
        .where(messages.c.campaign_id == CAMPAIGN_ID)
        .group_by(messages.c.status, messages.c.reason)
    )
    return sum(row[2] for row in connection.execute(query))
