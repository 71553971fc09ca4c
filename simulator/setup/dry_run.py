"""Judge the customers of a scenario by all checks, without sending or keeping anything."""

import csv
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import sqlalchemy as sa

from simulator.audience.rejects import TooManyRejects
from simulator.progress_lines import ProgressLines
from simulator.scenario.file import Scenario
from simulator.schema import open_database
from simulator.setup.record import record_run
from simulator.setup.run import Run, RunCampaign
from tracker.clock import Instant, from_seconds
from tracker.errors import SendtraceError, UsageError
from tracker.queries.next_step import CHECK_STEPS
from tracker.settings import Settings
from tracker.store.database import Database
from tracker.store.schema.catalog import customers
from tracker.text import pluralize
from workers.checks.base import all_checks
from workers.rules.as_of import PASSES, Rules, Verdict
from workers.rules.rejudge import MESSAGES_PER_CHUNK, CheckErrors, judge_messages
from workers.steps.limits import StepTimeout, worker_limits


class DryRun:
    """A dry run of the checks on the customers of a scenario.

    Attributes:
        check_errors: the failures of checks so far.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        print_line: Callable[[str], None],
        starts_at: Instant | None = None,
    ) -> None:
        """Prepare a dry run.

        Args:
            folder: empty folder for the customers; the caller deletes it.
            print_line: receives rows that could not be read, and the progress.
            starts_at: start of the run's clock; None for now.
        """
        self.check_errors = CheckErrors()
        # An outage of a service delays messages, but blocks none.
        campaigns = tuple(campaign.without_outages() for campaign in scenario.campaigns)
        self._scenario = replace(scenario, campaigns=campaigns)
        self._folder, self._print_line, self._starts_at = folder, print_line, starts_at
        self._progress = ProgressLines(print_line)

    def judge_customers(self) -> Iterator[tuple[str, str, Verdict]]:
        """Yield campaign, customer id and verdict for every customer of every campaign.

        Each message is judged at its arrival, with the limits of a step in a worker.
        """
        settings = Settings(home=self._folder, database_url=None)
        settings.prepare_home()
        with closing(open_database(settings)) as database:
            run = self._record_run(database)
            for audience in run.imports:
                if audience.rejects_file is not None:
                    first = _describe_first_reject(audience.rejects_file)
                    self._print_line(f"{audience.summary}; {first}")
            yield from self._judge_run(database, run)

    def _record_run(self, database: Database) -> Run:
        progress = self._progress.counter("customers read")
        try:
            return record_run(database, self._scenario, self._folder, progress)
        except TooManyRejects as error:  # the rejects file is deleted with the folder
            raise UsageError(error.message) from None

    def _judge_run(self, database: Database, run: Run) -> Iterator[tuple[str, str, Verdict]]:
        checks = all_checks()
        judged = 0
        for run_campaign in run.campaigns:
            campaign = run_campaign.campaign
            if self._starts_at is not None:
                campaign = replace(campaign, started_at=self._starts_at)
                run_campaign = replace(run_campaign, campaign=campaign)
            rules = Rules(campaign=campaign, checks=checks)
            for first in range(0, run_campaign.size, MESSAGES_PER_CHUNK):
                ids = _read_customer_ids(database, campaign.audience_id, first)
                arrivals = _find_arrivals(run_campaign, first, len(ids))
                try:
                    with worker_limits():
                        blocked = judge_messages(
                            database, rules, dict.fromkeys(CHECK_STEPS, arrivals), self.check_errors
                        )
                except StepTimeout as error:
                    raise SendtraceError(
                        f"{pluralize(len(ids), 'message')} of campaign {campaign.name}, from number"
                        f" {first} on: {error}; workers would try them again in smaller segments"
                    ) from error
                for number, customer_id in ids.items():
                    yield campaign.name, customer_id, blocked.get(number, PASSES)
                judged += len(ids)
                self._progress.show(f"{judged:,} of {pluralize(run.size, 'message')} judged")


def _find_arrivals(campaign: RunCampaign, first: int, count: int) -> Mapping[int, Instant]:
    """Return when messages arrive, by their numbers, in whole seconds after the first message."""
    seconds = campaign.plan.arrival_shape.arrival_times(first, count)
    return {
        first + index: campaign.starts_at + from_seconds(int(second))
        for index, second in enumerate(seconds)
    }


def _describe_first_reject(rejects_file: Path) -> str:
    """Return the first rejected row in words, because its file is deleted with the folder."""
    with rejects_file.open(encoding="utf-8", newline="") as file:
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
