"""The charts of a campaign's last minutes: what they say of stops and gaps, and their clock."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from fastapi.testclient import TestClient

from tracker.monitoring import QueueDepth
from tracker.output.charts import Chart
from tracker.queries.report import make_reports
from tracker.record.catalog import Batch
from tracker.store.database import Database
from tracker.web.charts import make_live_charts
from tracker.web.live import ProgressSample, QueueSample

START = datetime(2026, 12, 1, 22, 59, 50, tzinfo=UTC).timestamp()

KOLKATA = ZoneInfo("Asia/Kolkata")


def draw(batch: Batch, database: Database, counts: dict[int, int]) -> list[Chart]:
    """Return the charts of samples: the messages sent by some seconds after START."""
    with database.read() as connection:
        [report] = make_reports(connection, [batch.campaign])
    progress = [ProgressSample(START + at, sent, 0, 0) for at, sent in counts.items()]
    queues = [QueueSample(START + at, {"queued": QueueDepth(3, 1)}) for at in list(counts)[1:]]
    return make_live_charts(progress, queues, report, ZoneInfo("UTC"), KOLKATA)


def line_of(chart: Chart) -> Any:
    assert chart.drawing is not None
    return chart.drawing.spec["layer"][0]


def values_of(chart: Chart) -> list[float | None]:
    return [point["y"] for point in line_of(chart)["data"]["values"] if point["series"] == 0]


def test_a_sudden_stop_is_a_step(batch: Batch, database: Database) -> None:
    """A period without change keeps its first and its last sample only."""
    throughput, *_ = draw(batch, database, {0: 0, 1: 900, 2: 1_800, 3: 1_800, 35: 1_800})
    assert line_of(throughput)["mark"]["interpolate"] == "step-before"
    assert values_of(throughput) == [900, 900, 0, 0]


def test_nothing_is_drawn_where_nobody_looked(batch: Batch, database: Database) -> None:
    throughput, queues, *_ = draw(batch, database, {0: 0, 1: 900, 40: 9_000, 41: 9_100})
    assert values_of(throughput) == [900, None, 100]
    assert values_of(queues) == [4, None, 4, 4]


def test_both_charts_share_a_clock_in_the_viewers_zone(batch: Batch, database: Database) -> None:
    throughput, queues, *_ = draw(batch, database, {0: 0, 5: 900, 10: 1_800, 15: 2_700})
    domains = [line_of(chart)["encoding"]["x"]["scale"]["domain"] for chart in (throughput, queues)]
    assert domains[0] == domains[1]
    assert throughput.svg is not None
    assert ">04:30:00<" in throughput.svg, "24 hours a day, half an hour off the hours of UTC"
    assert [row[0] for row in throughput.table.rows] == ["04:29:55", "04:30:00", "04:30:05"]


def test_an_unknown_zone_is_ignored(batch: Batch, client: TestClient) -> None:
    path = f"/campaigns/{batch.campaign.id}/charts"
    for zone in ("Asia/Kolkata", "Nowhere", "../etc/passwd", "", "\0"):
        assert client.get(path, params={"zone": zone}).status_code == 200
