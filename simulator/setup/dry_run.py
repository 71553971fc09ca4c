"""A scenario's customers judged by all checks, with nothing sent and nothing stored for good."""

import csv
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from simulator.scenario.file import Scenario
from simulator.schema import open_database
from simulator.setup.record import AudienceRejects, record_run
from tracker.settings import Settings
from tracker.status import Reason
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.checks.base import all_checks
from workers.rules.rejudge import MESSAGES_PER_CHUNK, CheckErrors, Rules, judge_messages


def judge_customers(
    scenario: Scenario, folder: Path, say: Callable[[str], None]
) -> Iterator[tuple[str, str, Reason | None]]:
    """Campaign, customer id and verdict of every customer of every campaign.

    ``folder`` holds the customers meanwhile; whoever gives it takes it away. ``say`` is told of
    rows that could not be read and, at the end, of checks that gave no verdict.
    """
    settings = Settings(home=folder, database_url=None)
    settings.prepare_home()
    with closing(open_database(settings)) as database:
        # An outage of a service delays messages, but blocks none.
        campaigns = tuple(campaign.without_outages() for campaign in scenario.campaigns)
        calm = replace(scenario, campaigns=campaigns)
        run = record_run(database, calm, folder, lambda _: None)
        for rejects in run.rejects:
            say(f"{rejects.summary}; {_describe_first_reject(rejects)}")
        checks, troubles = all_checks(), CheckErrors()
        for loaded in run.campaigns:
            campaign = loaded.campaign
            rules = Rules(campaign=campaign, checks=checks)
            for first in range(0, loaded.size, MESSAGES_PER_CHUNK):
                ids = _read_customer_ids(database, campaign.audience_id, first)
                now = campaign.clock.now()
                blocked = judge_messages(database, rules, list(ids), now, troubles)
                for number, customer_id in ids.items():
                    yield campaign.name, customer_id, blocked.get(number)
        for line in troubles.format_lines():
            say(line)


def _describe_first_reject(rejects: AudienceRejects) -> str:
    """The first rejected row: their file goes with the folder."""
    with rejects.file.open(encoding="utf-8", newline="") as file:
        line, cause, _ = next(islice(csv.reader(file), 1, None))
    return f"the first is line {line}: {cause}"


def _read_customer_ids(database: Database, audience_id: int, first: int) -> dict[int, str]:
    query = (
        sa.select(customers.c.number, customers.c.customer_id)
        .where(
            customers.c.audience_id == audience_id,
            customers.c.number.between(first, first + MESSAGES_PER_CHUNK - 1),
        )
        .order_by(customers.c.number)
    )
    with database.read() as connection:
        return dict(connection.execute(query).all())
