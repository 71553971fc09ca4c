"""The sums of check times, which are read on from the latest steps."""

import sqlalchemy as sa

from tests.support.factory import Plan, make_batch, make_campaign
from tests.support.statements import executed
from tracker.record.catalog import Batch
from tracker.record.check_times import OVERLAP_STEPS, CheckTime, CheckTimeTotals, encode_check_times
from tracker.status import Step
from tracker.store.database import Database
from tracker.store.schema.work import steps


def record_times(database: Database, batch: Batch, step_id: int, **seconds: float) -> None:
    times = {name: CheckTime(10, value) for name, value in seconds.items()}
    key = {"id": step_id, "campaign_id": batch.campaign.id, "batch": batch.batch}
    written = {"worker": "test", "started_at": 0, "finished_at": 0, "moved": 0}
    with database.write() as connection:
        connection.execute(
            sa.insert(steps).values(
                **key, **written, step=Step.SUPPRESS, check_times=encode_check_times(times)
            )
        )


def test_times_are_read_on_from_the_latest_steps(database: Database) -> None:
    batch = make_batch(database)
    other = make_campaign(database, Plan(name="other"))
    campaign_id = batch.campaign.id
    totals = CheckTimeTotals()

    def read(*campaign_ids: int) -> dict[int, dict[str, CheckTime]]:
        with database.read() as connection:
            return totals.read(connection, campaign_ids)

    record_times(database, batch, 100, ndnc=1.0)
    record_times(database, batch, 100 + 2 * OVERLAP_STEPS, ndnc=2.0, dnd=4.0)
    first = read(campaign_id)
    assert first == {campaign_id: {"ndnc": CheckTime(20, 3.0), "dnd": CheckTime(10, 4.0)}}
    assert read(campaign_id) == first, "no step counts twice"
    record_times(database, batch, 99 + 2 * OVERLAP_STEPS, ndnc=8.0)  # was committed later
    record_times(database, batch, 101 + 2 * OVERLAP_STEPS, ndnc=16.0)
    expected = {"ndnc": CheckTime(40, 27.0), "dnd": CheckTime(10, 4.0)}
    assert read(campaign_id, other.id) == {campaign_id: expected, other.id: {}}
    with executed(database) as statements:
        assert read(campaign_id, other.id) == {campaign_id: expected, other.id: {}}
    assert not [text for text, _ in statements if "steps.campaign_id IN" in text], (
        "also campaigns without a time are read from the first step on only once"
    )
    assert read(other.id) == {other.id: {}}
    assert totals._totals == {other.id: {}}, "a web process runs for long and must not grow"
    assert read(campaign_id, other.id) == {campaign_id: expected, other.id: {}}
