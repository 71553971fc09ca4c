"""The system under test of a run: database, broker, Celery app and worker."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from celery import Celery

from simulator.faults.connections import LocalStack, start_local_stack
from simulator.retry import Outages
from simulator.run.options import RunOptions
from simulator.scenario.file import Scenario
from simulator.schema import open_database
from simulator.stack.announcement import exclude_stack
from simulator.stack.broker import Broker, open_configured_broker
from simulator.stack.local import LocalWorker
from tracker.settings import Settings
from tracker.store.database import Database
from workers.celery_app import make_celery_app
from workers.gateways.safety import check_gateway
from workers.services.base import load_services_factory


@dataclass(frozen=True, kw_only=True)
class RunSystem:
    """The parts of the system that a run's messages go through.

    Attributes:
        app: the run's own Celery app: it holds connections to the run's broker.
        worker: the worker that this process has started; None with attached workers.
        local_stack: None where the settings name a broker.
        outages: the outages of database and broker that the driver waits for.
    """

    settings: Settings
    database: Database
    broker: Broker
    app: Celery
    worker: LocalWorker | None
    local_stack: LocalStack | None
    outages: Outages

    def wait_until_ready(self) -> None:
        """Return when the worker that this process has started answers."""
        if self.worker is not None:
            self.worker.wait_until_ready(self.app)

    @contextmanager
    def readable_errors(self) -> Iterator[None]:
        """Turn errors of database and broker within the block into one line each."""
        with self.database.readable_errors(), self.broker.readable_errors():
            yield


@contextmanager
def open_system(scenario: Scenario, settings: Settings, options: RunOptions) -> Iterator[RunSystem]:
    """Start or connect to the system that a scenario runs on.

    Raises:
        UsageError: a part of it is missing or can't be used.
    """
    with ExitStack() as stack:
        if not options.is_attached:
            database_url = settings.resolved_database_url
            stack.enter_context(exclude_stack(settings.home, database_url))
        local_stack = None
        if options.is_attached or settings.broker_url:
            broker = open_configured_broker(settings, "--attach")
        else:
            local_stack = stack.enter_context(start_local_stack(scenario, settings))
            settings = local_stack.driver_settings
            broker = Broker(local_stack.broker.url)
        stack.enter_context(closing(broker))
        # The worker starts first: it takes seconds, in which all else is prepared.
        worker = None
        if not options.is_attached:
            database_url = settings.resolved_database_url
            worker = LocalWorker(
                broker=local_stack.worker_broker if local_stack else broker.url,
                database=local_stack.worker_database if local_stack else database_url,
                processes=options.workers,
                log=settings.logs / f"worker-{os.getpid()}.log",
                temporary=local_stack.broker.folder if local_stack else None,
            )
            stack.callback(worker.stop)
        database = stack.enter_context(closing(open_database(settings)))
        for kind, gateway_settings in scenario.network_gateways:
            check_gateway(kind, gateway_settings, database)
        for campaign in scenario.campaigns:
            load_services_factory(campaign.services_kind)(campaign.services_settings, database)
        app = stack.enter_context(make_celery_app("driver", broker.url))
        app.conf.task_publish_retry = False  # Outages.retry does it, and reports it
        if worker is None:
            broker.check_workers(app)
        yield RunSystem(
            settings=settings,
            database=database,
            broker=broker,
            app=app,
            worker=worker,
            local_stack=local_stack,
            outages=Outages(options.outage_limit),
        )
