"""Actions on campaigns: `sendtrace pause` and `cancel`, and `resume` with a campaign's name."""

import getpass
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulator.cli.output import check_writable, write_output
from tracker.commands import (
    DatabaseOption,
    RunOption,
    exit_on_error,
    find_selected_campaigns,
    open_database,
)
from tracker.text import escape_control_characters

if TYPE_CHECKING:
    from tracker.record.actions.log import Action
    from tracker.record.catalog import Campaign
    from tracker.store.database import Database

CampaignName = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Name of the campaign.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why, for the action log.")
]
ActionFileOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the action as JSON to a file.")
]


@exit_on_error
def pause(
    campaign: CampaignName,
    run: RunOption = None,
    reason: ReasonOption = "",
    json_file: ActionFileOption = None,
    database: DatabaseOption = None,
) -> None:
    """Pause a campaign: none of its messages is queued, checked or submitted until it is resumed.

    Steps in progress end as usual, and what is in the gateway goes on: receipts and engagement are
    recorded. The action log has the user of the operating system as the actor.

    Exit codes: 0 paused · 2 no such campaign, one that is paused already, or whose run has ended.

    Examples: sendtrace pause diwali-email · sendtrace pause diwali-email --run 3 --reason "typo"
    """
    from tracker.record.actions.campaigns import pause_campaign

    act_on_campaign(pause_campaign, campaign, run, reason, json_file, database)


@exit_on_error
def cancel(
    campaign: CampaignName,
    run: RunOption = None,
    reason: ReasonOption = "",
    json_file: ActionFileOption = None,
    database: DatabaseOption = None,
) -> None:
    """Cancel a campaign: what the gateway doesn't have yet is Not Sent, for the reason cancelled.

    That concerns scheduled, queued and about-to-be-sent messages. Soft bounces aren't submitted
    again. What is in the gateway goes on: receipts and engagement are recorded. It can't be undone.
    The action log has the user of the operating system as the actor.

    Exit codes: 0 cancelled · 2 no such campaign, one that is cancelled already, or whose run has
    ended.

    Examples: sendtrace cancel diwali-email · sendtrace cancel diwali-email --reason "recall"
    """
    act_on_campaign(_cancel, campaign, run, reason, json_file, database)


def _cancel(record: "Database", campaign: "Campaign", *, actor: str, reason: str) -> "Action":
    from tracker.record.actions.campaigns import cancel_campaign
    from tracker.record.actions.cancellation import cancel_recorded_messages
    from tracker.record.journal import Author

    action = cancel_campaign(record, campaign, actor=actor, reason=reason)
    cancel_recorded_messages(record, campaign, Author(worker=actor))
    return action


def act_on_campaign(
    act: "Callable[..., Action]",
    name: str,
    run: int | None,
    reason: str,
    json_file: Path | None,
    database: str | None,
) -> None:
    """Do something to a campaign as the user of this process, and print what was done.

    Args:
        act: a function of `tracker.record.actions.campaigns`, which records the action.

    Raises:
        UsageError: there is no such campaign, or the action makes no sense in its state.
    """
    from simulator.schema import check_all_tables

    check_writable("--json", json_file)
    with open_database(database, check_all_tables) as record:
        with record.read() as connection:
            [campaign] = find_selected_campaigns(connection, name, run)
        action = act(record, campaign, actor=find_user(), reason=reason)
    text = f"campaign {campaign.name} of run {campaign.run_id} {action.action.meaning}"
    print(escape_control_characters(text))
    if json_file is not None:
        write_output("--json", json_file, json.dumps(action.as_json(), indent=2) + "\n")


def find_user() -> str:
    """Return the name of the user who runs this process, or the number of one without a name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
