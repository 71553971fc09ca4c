"""Progress of a run, added up from reports."""

from simulator.run.observers.base import RunProgress
from tests.support.factory import READY, Plan, in_gateway, make_batch, move, not_sent_for
from tracker.queries.report import make_reports
from tracker.status import Reason, Step
from tracker.store.database import Database


def test_only_messages_that_the_gateway_accepted_count_as_accepted(database: Database) -> None:
    batch = make_batch(database, Plan(size=10))
    move(database, batch, [0, 1, 2], not_sent_for(Reason.UNSUBSCRIBED), step=Step.SUPPRESS)
    move(database, batch, [3, 4, 5], READY)
    move(database, batch, [6, 7], READY, in_gateway())
    with database.read() as connection:
        progress = RunProgress.from_reports(make_reports(connection, [batch.campaign]))
    assert (progress.recorded, progress.checked, progress.accepted) == (10, 8, 2)
    assert (progress.settled, progress.pending_messages) == (3, 5)
