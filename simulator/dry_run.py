"""A scenario's customers judged by all checks, with nothing sent and nothing stored for good."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from simulator.load import record_run
from simulator.run import open_database
from simulator.scenario import Scenario
from tracker.database import Database
from tracker.schema import customers
from tracker.settings import Settings
from tracker.status import Reason
from workers.checks.base import all_checks
from workers.services import factory_of
from workers.trial import CHUNK, Rules, verdicts


def judge_customers(scenario: Scenario, folder: Path) -> Iterator[tuple[str, str, Reason | None]]:
    """Campaign, customer id and verdict of every customer of every campaign.

    ``folder`` holds the customers meanwhile; whoever gives it takes it away.
    """
    settings = Settings(home=folder, database_url=None)
    settings.prepare_home()
    with closing(open_database(settings)) as database:
        # What is away for a time costs time only, and is of no interest here.
        calm = scenario.model_copy(update={"services": scenario.services_without_outages})
        run = record_run(database, calm, folder, lambda _: None)
        checks = all_checks()
        for loaded in run.campaigns:
            campaign = loaded.campaign
            rules = Rules(campaign=campaign, checks=checks)
            services = factory_of(campaign.services_kind)(campaign.services_settings, database)
            for first in range(0, loaded.size, CHUNK):
                ids = _customer_ids(database, campaign.audience_id, first)
                now = campaign.clock.now()
                stopped = verdicts(database, rules, services, list(ids), now)
                for number, customer_id in ids.items():
                    yield campaign.name, customer_id, stopped.get(number)


def _customer_ids(database: Database, audience_id: int, first: int) -> dict[int, str]:
    query = (
        sa.select(customers.c.number, customers.c.customer_id)
        .where(
            customers.c.audience_id == audience_id,
            customers.c.number.between(first, first + CHUNK - 1),
        )
        .order_by(customers.c.number)
    )
    with database.read() as connection:
        return dict(connection.execute(query).all())
