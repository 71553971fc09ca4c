"""`sendtrace serve`: the live page with its runs, and monitoring of broker, workers and checks."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import lru_cache, partial

from celery import Celery
from redis import Redis
from redis.exceptions import TimeoutError as BrokerTimeout

from simulator.schema import open_database
from simulator.web.check_process import CheckProcess
from simulator.web.commands import make_commands
from simulator.web.runs import RUNS_SECTION
from tracker.errors import BrokerUnreachable
from tracker.monitoring import QueueDepth
from tracker.output.logs import configure_logging
from tracker.record.catalog import Batch, Campaign, load_campaign
from tracker.record.due import DueKind
from tracker.settings import Settings
from tracker.status import Step
from tracker.store.database import Database
from tracker.web.app import make_app
from tracker.web.monitoring import Monitoring, NotifyWorkers
from tracker.web.server import bind_socket, check_address, serve, socket_url
from workers.celery_app import make_celery_app
from workers.chains import StepArguments, enqueue_step
from workers.queues import QUEUES
from workers.upkeep.broker import make_broker_client, read_queue_depths, read_sweep_age
from workers.upkeep.presence import WorkerListener
from workers.upkeep.sweep import find_batches_in_progress

STEP_BY_DUE_KIND = {DueKind.RECEIPTS: Step.DELIVER, DueKind.ENGAGEMENT: Step.ENGAGE}
"""The step that applies stored reports."""

BROKER_TIMEOUT_SECONDS = 2.0
"""Seconds that the broker has to answer; a broker that hangs takes connections and doesn't."""


def serve_live_page(settings: Settings, host: str, port: int) -> None:
    """Serve the live page until Ctrl-C, or raise `UsageError` if the address can't be served."""
    check_address(host, settings.token)
    settings.prepare_home()
    configure_logging(settings)
    with ExitStack() as stack:
        database = stack.enter_context(closing(open_database(settings)))
        listener = stack.enter_context(closing(bind_socket(host, port)))
        monitoring = stack.enter_context(open_monitoring(database, settings))
        app = make_app(database, settings, monitoring, (RUNS_SECTION,))
        print(f"live page: {socket_url(listener)}", flush=True)
        serve(app, listener)


@contextmanager
def open_monitoring(database: Database, settings: Settings) -> Iterator[Monitoring]:
    """Monitor the checks and, where one is configured, the broker and its workers."""
    with ExitStack() as stack:
        checks = stack.enter_context(closing(CheckProcess(settings.resolved_database_url)))
        monitoring = Monitoring(
            queues=QUEUES,
            explain_checks=checks.evaluate,
            commands=make_commands(settings),
        )
        if settings.broker_url:
            client = stack.enter_context(
                make_broker_client(settings.broker_url, timeout=BROKER_TIMEOUT_SECONDS)
            )
            app = stack.enter_context(make_celery_app("live-page", settings.broker_url))
            listener = stack.enter_context(WorkerListener(app))
            monitoring = replace(
                monitoring,
                read_queue_depths=partial(_ask_for_depths, client),
                read_sweep_age=partial(read_sweep_age, client),
                read_worker_activity=listener.snapshot,
                notify_workers=_make_notifier(database, app),
                requeue_batch=partial(_requeue, app, client),
            )
        yield monitoring


def _requeue(app: Celery, client: Redis, batch: Batch, step: Step) -> bool:
    """Enqueue a step on a batch, unless the batch has a task; return whether it was enqueued."""
    key = (batch.campaign.id, batch.batch)
    if find_batches_in_progress(app, client, {key}):
        return False
    # As a retry: the batch may have killed the process of its task.
    arguments = StepArguments(campaign=batch.campaign.id, batch=batch.batch, is_retry=True)
    enqueue_step(app, step, arguments, batch.campaign, retry=False)
    return True


def _make_notifier(database: Database, app: Celery) -> NotifyWorkers:
    @lru_cache
    def read_campaign(campaign_id: int) -> Campaign:
        with database.read() as connection:
            return load_campaign(connection, campaign_id)

    def notify(campaign_id: int, batch: int, kind: DueKind, *, is_one_off: bool) -> None:
        step = STEP_BY_DUE_KIND[kind]
        arguments = StepArguments(campaign=campaign_id, batch=batch, is_one_off=is_one_off)
        enqueue_step(app, step, arguments, read_campaign(campaign_id), retry=False)

    return notify


def _ask_for_depths(client: Redis) -> Mapping[str, QueueDepth]:
    """Return the depth of each queue, if the broker can also be written."""
    try:
        client.ping()  # refused while the broker loads its data, or can't write its file
        return read_queue_depths(client)
    except BrokerTimeout:
        raise BrokerUnreachable(f"no answer within {BROKER_TIMEOUT_SECONDS:g} s") from None
