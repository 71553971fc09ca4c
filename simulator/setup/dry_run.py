"""Judge the customers of a scenario by all checks, without sending or keeping anything."""

import csv
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from simulator.scenario.file import Scenario
from simulator.schema import open_database
from simulator.setup.record import record_run
from simulator.setup.rejects import AudienceRejects
from tracker.queries.next_step import CHECK_STEPS
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from workers.checks.base import all_checks
from workers.rules.as_of import PASSES, Rules, Verdict
from workers.rules.rejudge import MESSAGES_PER_CHUNK, CheckErrors, judge_messages


def judge_customers(
    scenario: Scenario, folder: Path, print_line: Callable[[str], None]
) -> Iterator[tuple[str, str, Verdict]]:
    """Yield campaign, customer id and verdict for every customer of every campaign.

    Args:
        folder: empty folder for the customers; the caller deletes it.
        print_line: receives rows that could not be read and, at the end, checks that failed.
    """
    settings = Settings(home=folder, database_url=None)
    settings.prepare_home()
    with closing(open_database(settings)) as database:
        # An outage of a service delays messages, but blocks none.
        campaigns = tuple(campaign.without_outages() for campaign in scenario.campaigns)
        run = record_run(database, replace(scenario, campaigns=campaigns), folder, lambda _: None)
        for rejects in run.rejects:
            print_line(f"{rejects.summary}; {_describe_first_reject(rejects)}")
        checks, errors = all_checks(), CheckErrors()
        for run_campaign in run.campaigns:
            campaign = run_campaign.campaign
            rules = Rules(campaign=campaign, checks=checks)
            for first in range(0, run_campaign.size, MESSAGES_PER_CHUNK):
                ids = _read_customer_ids(database, campaign.audience_id, first)
                arrivals = dict.fromkeys(ids, run_campaign.starts_at)
                instants = dict.fromkeys(CHECK_STEPS, arrivals)
                blocked = judge_messages(database, rules, instants, errors)
                for number, customer_id in ids.items():
                    yield campaign.name, customer_id, blocked.get(number, PASSES)
        for line in errors.format_lines():
            print_line(line)


def _describe_first_reject(rejects: AudienceRejects) -> str:
    """Return the first rejected row in words, because its file is deleted with the folder."""
    with rejects.file.open(encoding="utf-8", newline="") as file:
        line, cause, _ = next(islice(csv.reader(file), 1, None))
    return f"the first is line {line}: {cause}"


def _read_customer_ids(database: Database, audience_id: int, first: int) -> dict[int, str]:
    """Return the ids of a chunk of customers from `first` on, by their numbers."""
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
