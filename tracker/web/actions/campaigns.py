"""What can be done to a campaign, by the API and by the pages."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from tracker.campaign_states import ENDED_STATES, ActionKind, CampaignState
from tracker.errors import NotFound
from tracker.record.actions.campaigns import cancel_campaign, pause_campaign, resume_campaign
from tracker.record.actions.log import Action
from tracker.record.catalog import Campaign
from tracker.store.database import Database
from tracker.text import join_with_or
from tracker.web.context import WebContext


class CampaignAction(Protocol):
    """A function of `tracker.record.actions.campaigns`."""

    def __call__(
        self, database: Database, campaign: Campaign, *, actor: str, reason: str
    ) -> Action:
        """Do it, and return its row of the action log."""


CAMPAIGN_ACTIONS: Mapping[ActionKind, CampaignAction] = {
    ActionKind.PAUSE: pause_campaign,
    ActionKind.RESUME: resume_campaign,
    ActionKind.CANCEL: cancel_campaign,
}


def list_offered(state: CampaignState) -> Sequence[ActionKind]:
    """Return the actions that make sense for a campaign in a state."""
    if state in (*ENDED_STATES, CampaignState.CANCELLED):
        return ()
    is_paused = state is CampaignState.PAUSED
    return (ActionKind.RESUME if is_paused else ActionKind.PAUSE, ActionKind.CANCEL)


def find_action(name: str) -> ActionKind:
    """Return what can be done to a campaign under a name; raise `NotFound` for another name."""
    for action in CAMPAIGN_ACTIONS:
        if action == name:
            return action
    raise NotFound(f"{name}: not an action; expected {join_with_or([*CAMPAIGN_ACTIONS])}")


def act_on_campaign(
    context: WebContext, campaign_id: int, action: ActionKind, *, actor: str, reason: str
) -> Action:
    """Do something to a campaign, and return its row of the action log.

    Raises:
        NotFound: there is no such campaign.
        ActionRefused: it makes no sense in the campaign's state.
    """
    with context.read_database() as connection:
        campaign = context.load_campaign(connection, campaign_id)
    act = CAMPAIGN_ACTIONS[action]
    return act(context.database, campaign, actor=actor, reason=reason)
