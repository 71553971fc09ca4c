"""A run with a cancelled campaign: what was cancelled is excepted, all else is compared."""

from pathlib import Path

import sqlalchemy as sa

from simulator.setup.record import record_run
from simulator.setup.run import Run
from tests.support.factory import AUTHOR
from tests.support.inline_runs import (
    assert_passed,
    build_campaign,
    build_scenario,
    enqueue_campaign,
    judge_recorded_run,
    run_step,
    settle_batch,
)
from tracker.queries.next_step import CHECK_CHAIN
from tracker.record.actions.campaigns import cancel_campaign
from tracker.record.actions.cancellation import cancel_recorded_messages
from tracker.record.catalog import load_batch
from tracker.status import Reason, Status, Step
from tracker.store.database import Database
from tracker.store.schema.catalog import campaigns


def cancel_half(database: Database, folder: Path) -> Run:
    """Cancel a campaign whose first half has soft-bounced, and whose second half is checked."""
    scenario = build_scenario(
        build_campaign(audience=100, defects={"unsubscribed": 0.1}),
        gateways={"email": {"soft_bounce": 1.0, "attempts": 2}},
    )
    run = record_run(database, scenario, folder, lambda _: None)
    sent, checked = enqueue_campaign(database, run.campaigns[0], 2)
    for step in (*CHECK_CHAIN, Step.SUBMIT, Step.DELIVER):
        run_step(database, sent, step)
    run_step(database, checked, Step.SUPPRESS)
    [campaign] = run.recorded_campaigns
    cancel_campaign(database, campaign, actor="asha", reason="recall")
    cancel_recorded_messages(database, campaign, AUTHOR)
    for batch in (sent, checked):
        with database.read() as connection:
            loaded = load_batch(connection, campaign.id, batch.batch)
        settle_batch(database, loaded)
    return run


def test_cancelled_messages_are_excepted_and_all_others_compared(
    database: Database, tmp_path: Path
) -> None:
    run = cancel_half(database, tmp_path)
    result = judge_recorded_run(database, run)
    assert_passed(result)
    [report], [check] = result.reports, result.prediction_checks
    cancelled = report.count_messages(Status.NOT_SENT, Reason.CANCELLED)
    cut_off = report.count_messages(Status.SOFT_BOUNCED)
    unsubscribed = report.count_messages(Status.NOT_SENT, Reason.UNSUBSCRIBED)
    assert min(cancelled, cut_off, unsubscribed) > 0
    assert cancelled + cut_off + unsubscribed == 100
    assert (check.cancelled, check.matching) == (cancelled, cut_off + unsubscribed)

    with database.write() as connection:
        connection.execute(sa.update(campaigns).values(cancelled_at=None))
    without = judge_recorded_run(database, run)
    assert not without.is_as_predicted, "nothing is excepted unless the campaign was cancelled"
    assert without.prediction_checks[0].cancelled == 0
