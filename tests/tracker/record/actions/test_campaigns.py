"""Pause and resume of campaigns: what is recorded, and what is refused."""

from collections.abc import Callable

import pytest

from tests.support.factory import (
    make_batch,
    make_busy_batch,
    make_campaign,
    run_concurrently,
)
from tracker.campaign_states import ActionKind, CampaignState
from tracker.queries.campaign_state import read_origins, read_run_states
from tracker.queries.report import make_reports
from tracker.record import registration
from tracker.record.actions.campaigns import ActionRefused, pause_campaign, resume_campaign
from tracker.record.actions.log import campaign_target, read_actions
from tracker.record.catalog import Campaign, load_campaign
from tracker.store.database import Database


def reload(database: Database, campaign: Campaign) -> Campaign:
    with database.read() as connection:
        return load_campaign(connection, campaign.id)


def state(database: Database, campaign: Campaign) -> CampaignState:
    with database.read() as connection:
        [origin] = read_origins(connection, [campaign])
        return origin.state


def end_run(database: Database, campaign: Campaign, ended_as: CampaignState) -> None:
    with database.write() as connection:
        if ended_as is CampaignState.FINISHED:
            registration.finish_run(connection, campaign.run_id, 1)
        else:
            registration.give_up_run(connection, campaign.run_id, ended_as)


def test_a_paused_campaign_is_shown_as_such_until_it_is_resumed(database: Database) -> None:
    campaign, other = (make_batch(database).campaign for _ in range(2))
    before = campaign.clock.now()
    paused = pause_campaign(database, campaign, actor="asha", reason="typo")
    recorded = reload(database, campaign)
    assert recorded.paused_at is not None
    assert recorded.resumed_at is None
    assert before <= recorded.paused_at <= campaign.clock.now()
    assert state(database, campaign) is CampaignState.PAUSED
    assert state(database, other) is CampaignState.RUNNING
    with database.read() as connection:
        states = read_run_states(connection, [campaign.run_id])
    assert states == {campaign.run_id: CampaignState.RUNNING}, "its run goes on"

    resumed = resume_campaign(database, campaign, actor="ben", reason="")
    again = reload(database, campaign)
    assert again.paused_at is None
    assert again.resumed_at is not None
    assert again.resumed_at >= recorded.paused_at
    assert state(database, campaign) is CampaignState.RUNNING
    with database.read() as connection:
        assert read_actions(connection, limit=10) == [resumed, paused]
    assert [(action.action, action.actor, action.reason) for action in (paused, resumed)] == [
        (ActionKind.PAUSE, "asha", "typo"),
        (ActionKind.RESUME, "ben", ""),
    ]
    assert paused.target == resumed.target == campaign_target(campaign)
    assert paused.description == "campaign spring was paused by asha: typo"
    assert resumed.description == "campaign spring was resumed by ben"


def test_a_run_that_ends_early_does_not_wait_for_what_is_paused(database: Database) -> None:
    campaign = make_busy_batch(database).campaign
    held = []
    for act in (None, pause_campaign, resume_campaign):
        if act is not None:
            act(database, campaign, actor="asha", reason="")
        with database.read() as connection:
            [report] = make_reports(connection, [campaign])
        held.append(report.held)
    assert held == [0, 7, 0], "2 queued, 3 about to be sent and 2 soft bounces with attempts left"


def test_a_campaign_without_messages_can_be_paused(database: Database) -> None:
    campaign = make_campaign(database)
    pause_campaign(database, campaign, actor="asha", reason="")
    assert state(database, campaign) is CampaignState.PAUSED
    resume_campaign(database, campaign, actor="asha", reason="")
    assert state(database, campaign) is CampaignState.SCHEDULED


@pytest.mark.parametrize(
    ("prepare", "act", "message"),
    [
        pytest.param([pause_campaign], pause_campaign, "campaign spring is paused already"),
        pytest.param([], resume_campaign, "campaign spring isn't paused"),
        pytest.param(
            [pause_campaign, resume_campaign], resume_campaign, "campaign spring isn't paused"
        ),
    ],
)
def test_an_action_without_an_effect_is_refused_and_not_recorded(
    database: Database,
    prepare: list[Callable[..., object]],
    act: Callable[..., object],
    message: str,
) -> None:
    campaign = make_batch(database).campaign
    for earlier in prepare:
        earlier(database, campaign, actor="asha", reason="")
    with pytest.raises(ActionRefused, match=message):
        act(database, campaign, actor="ben", reason="")
    with database.read() as connection:
        assert len(read_actions(connection, limit=10)) == len(prepare)


@pytest.mark.parametrize(
    "ended_as", [CampaignState.FINISHED, CampaignState.INTERRUPTED, CampaignState.ABORTED]
)
def test_a_campaign_of_a_run_that_has_ended_cant_be_paused(
    database: Database, ended_as: CampaignState
) -> None:
    campaign = make_batch(database).campaign
    end_run(database, campaign, ended_as)
    with pytest.raises(ActionRefused, match=f"run {campaign.run_id} is {ended_as}"):
        pause_campaign(database, campaign, actor="asha", reason="")
    assert state(database, campaign) is ended_as


def test_a_paused_campaign_shows_the_end_of_its_run_and_can_be_resumed_before_that_is_resumed(
    database: Database,
) -> None:
    campaign = make_batch(database).campaign
    pause_campaign(database, campaign, actor="asha", reason="")
    end_run(database, campaign, CampaignState.INTERRUPTED)
    assert state(database, campaign) is CampaignState.INTERRUPTED
    resume_campaign(database, campaign, actor="asha", reason="")
    assert reload(database, campaign).paused_at is None


def test_of_two_people_who_pause_at_once_one_is_refused(database: Database) -> None:
    campaign = make_batch(database).campaign
    refused = []

    def pause() -> None:
        try:
            pause_campaign(database, campaign, actor="asha", reason="")
        except ActionRefused as error:
            refused.append(str(error))

    run_concurrently(pause, pause)
    assert refused == ["campaign spring is paused already"]
    with database.read() as connection:
        assert len(read_actions(connection, limit=10)) == 1
