"""Suppress the customers of a run who are on the list that their organization keeps."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from simulator.setup.run import RunCampaign
from simulator.suppressions.erasure_key import load_key
from tracker.clock import Instant, SystemClock
from tracker.record.retention.erased import reveal_erased
from tracker.record.suppressions.snapshot import (
    apply_copy,
    copy_list,
    keep_imported_facts,
    record_summary,
    summarize_copy,
)
from tracker.store.database import Database


def begin_with_kept_lists(
    database: Database,
    run_id: int,
    campaigns: Sequence[RunCampaign],
    clock_start: Instant | None,
    home: Path,
) -> None:
    """Copy the lists of a run's organizations as they stand, and suppress its customers.

    What the audience files say is added to the lists after that, so it isn't a part of the copies.

    Args:
        run_id: the run, which hasn't started yet.
        clock_start: what its clock will show at the start; None for the real time.
        home: the state folder, with the key of the hashes of erased customers.
    """
    now = SystemClock().now() if clock_start is None else clock_start
    organizations = {
        run_campaign.campaign.organization.id: run_campaign.campaign.organization.name
        for run_campaign in campaigns
        if run_campaign.plan.organization.keep
    }
    for name in sorted({*organizations.values()}):
        with database.write() as connection:
            copy_list(connection, run_id, name, now)
            summary = summarize_copy(connection, run_id, name)
            for organization_id, other_name in organizations.items():
                if other_name == name:
                    record_summary(connection, organization_id, summary)
            audience_ids = {
                run_campaign.campaign.audience_id
                for run_campaign in campaigns
                if run_campaign.campaign.organization.name == name
            }
            reveal_erased(
                database, connection, run_id, name, sorted(audience_ids), partial(load_key, home)
            )
    audiences = {
        run_campaign.campaign.audience_id: run_campaign
        for run_campaign in campaigns
        if run_campaign.plan.keeps_suppressions
    }
    for audience_id, run_campaign in sorted(audiences.items()):
        name = run_campaign.campaign.organization.name
        source = f"run {run_id}, file {run_campaign.plan.audience.label}"
        keep_imported_facts(database, name, audience_id, source, now)
        with database.write() as connection:
            apply_copy(connection, run_id, name, audience_id)
