"""The state of a campaign, on both databases, and how it changes."""

from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from tests.support.factory import Plan, enqueue_batches, make_batch, make_campaign, make_sibling
from tests.support.states import LONG_SILENCE, old_server, silence_driver
from tracker.campaign_states import CampaignState
from tracker.clock import from_seconds
from tracker.queries.campaign_state import ABANDONED_AFTER, read_origins, read_run_states
from tracker.queries.report import Report, make_reports
from tracker.queries.stalled import find_unfinished_campaigns
from tracker.record import registration
from tracker.record.catalog import Campaign
from tracker.store.database import Database
from tracker.store.database_clock import server_start, transaction_start
from tracker.store.schema.catalog import runs

pytestmark = pytest.mark.usefixtures("server_is_old")

Ending = Callable[[Connection, int], None]


@pytest.fixture
def server_is_old() -> Iterator[None]:
    with old_server():
        yield


def read_report(database: Database, campaign: Campaign) -> Report:
    with database.read() as connection:
        [report] = make_reports(connection, [campaign])
        [origin] = read_origins(connection, [campaign])
        assert origin.state is report.state
        return report


def test_campaign_is_scheduled_until_its_first_message_is_queued(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=60))
    report = read_report(database, campaign)
    assert (report.state, report.audience, report.scheduled) == (CampaignState.SCHEDULED, 60, 60)
    assert report.is_balanced


def test_healthy_trickle_is_running_with_the_rest_scheduled(database: Database) -> None:
    campaign = make_campaign(database, Plan(size=60))
    queue = enqueue_batches(database, campaign, size=5)
    next(queue)
    report = read_report(database, campaign)
    assert (report.state, report.audience, report.scheduled) == (CampaignState.RUNNING, 60, 55)
    assert (report.in_progress, report.is_balanced) == (5, True)


def test_campaign_that_waits_for_another_is_scheduled_while_its_run_is_running(
    database: Database,
) -> None:
    first = make_batch(database).campaign
    second = make_sibling(database, first, "second")
    assert read_report(database, second).state is CampaignState.SCHEDULED
    with database.read() as connection:
        states = read_run_states(connection, [first.run_id, 999])
    assert states == {first.run_id: CampaignState.RUNNING}


def finish(connection: Connection, run_id: int) -> None:
    registration.finish_run(connection, run_id, 1)


def interrupt(connection: Connection, run_id: int) -> None:
    registration.give_up_run(connection, run_id, CampaignState.INTERRUPTED)


def abort(connection: Connection, run_id: int) -> None:
    registration.give_up_run(connection, run_id, CampaignState.ABORTED)


@pytest.mark.parametrize(
    ("end", "state"),
    [(finish, CampaignState.FINISHED), (abort, CampaignState.ABORTED)],
    ids=["finished", "aborted"],
)
def test_a_run_that_has_ended_is_not_given_up_again(
    database: Database, end: Ending, state: CampaignState
) -> None:
    campaign = make_batch(database).campaign
    with database.write() as connection:
        end(connection, campaign.run_id)
        ended = connection.execute(sa.select(runs)).one()
        registration.give_up_run(connection, campaign.run_id, CampaignState.INTERRUPTED)
        assert connection.execute(sa.select(runs)).one() == ended
    assert read_report(database, campaign).state is state


@pytest.mark.parametrize(
    ("end", "state"),
    [
        pytest.param(finish, CampaignState.FINISHED, id="finished"),
        pytest.param(interrupt, CampaignState.INTERRUPTED, id="interrupted"),
        pytest.param(abort, CampaignState.ABORTED, id="aborted"),
    ],
)
def test_run_that_has_ended_needs_no_heartbeat(
    database: Database, end: Ending, state: CampaignState
) -> None:
    campaign = make_batch(database).campaign
    with database.write() as connection:
        end(connection, campaign.run_id)
    silence_driver(database, campaign, LONG_SILENCE)
    assert read_report(database, campaign).state is state
    with database.read() as connection:
        assert read_run_states(connection, [campaign.run_id]) == {campaign.run_id: state}
        assert find_unfinished_campaigns(connection) == []


def test_the_time_at_which_a_run_is_given_up_is_by_the_clock_of_its_heartbeats(
    database: Database,
) -> None:
    campaign = make_batch(database).campaign
    with database.write() as connection:
        registration.record_heartbeat(connection, campaign.run_id, resumes=0)
        interrupt(connection, campaign.run_id)
        row = connection.execute(sa.select(runs)).one()
    assert row.given_up_at == row.heartbeat_at


def test_run_without_a_heartbeat_for_thirty_seconds_is_abandoned_until_its_driver_returns(
    database: Database,
) -> None:
    campaign = make_batch(database, Plan(size=10)).campaign
    silence_driver(database, campaign, LONG_SILENCE - from_seconds(20))
    assert read_report(database, campaign).state is CampaignState.RUNNING
    silence_driver(database, campaign, LONG_SILENCE)
    assert read_report(database, campaign).state is CampaignState.ABANDONED
    with database.read() as connection:
        assert find_unfinished_campaigns(connection) == [campaign], "the sweep continues it"
    with database.write() as connection:
        registration.record_heartbeat(connection, campaign.run_id, resumes=0)
    assert read_report(database, campaign).state is CampaignState.RUNNING


def test_run_that_died_before_its_first_message_is_abandoned(database: Database) -> None:
    campaign = make_campaign(database)
    silence_driver(database, campaign, LONG_SILENCE)
    assert read_report(database, campaign).state is CampaignState.ABANDONED


def test_silence_does_not_count_while_the_database_could_not_be_reached(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that has just started, or a reader that has just got its connection back."""
    campaign = make_batch(database).campaign
    silence_driver(database, campaign, 10 * LONG_SILENCE)
    with monkeypatch.context() as patch:
        started = transaction_start() - from_seconds(10)
        patch.setattr("tracker.queries.campaign_state.server_start", lambda: started)
        assert read_report(database, campaign).state is CampaignState.RUNNING
    with database.read() as connection:
        now = connection.scalars(sa.select(transaction_start())).one()
    for instant, state in (
        (0, CampaignState.ABANDONED),
        (now, CampaignState.RUNNING),
        (now - LONG_SILENCE, CampaignState.ABANDONED),
    ):
        database.set_reachable_since(instant)
        assert read_report(database, campaign).state is state
        with database.write() as connection:
            assert read_run_states(connection, [campaign.run_id]) == {campaign.run_id: state}


def test_long_transaction_judges_the_heartbeat_that_it_sees_at_its_own_time(
    database: Database,
) -> None:
    campaign = make_batch(database).campaign
    with database.write() as connection:
        heartbeat_at = transaction_start() - (LONG_SILENCE - 1)
        connection.execute(sa.update(runs).values(heartbeat_at=heartbeat_at))
        [before] = make_reports(connection, [campaign])
        now = before.as_of
        while now <= before.as_of:  # until the heartbeat is too old for a new transaction
            with database.read() as other:
                now = other.scalars(sa.select(transaction_start())).one()
        [after] = make_reports(connection, [campaign])
        assert (after.as_of, after.state) == (before.as_of, CampaignState.RUNNING)
    assert read_report(database, campaign).state is CampaignState.ABANDONED


def test_server_start_is_that_of_the_server(database: Database) -> None:
    with database.read() as connection:
        started, now = connection.execute(sa.select(server_start(), transaction_start())).one()
    assert started < now
    assert (started > 0) is database.is_postgresql


def test_the_meaning_of_abandoned_says_after_how_many_seconds() -> None:
    seconds = f"for {ABANDONED_AFTER.total_seconds():.0f} s"
    assert seconds in CampaignState.ABANDONED.meaning
