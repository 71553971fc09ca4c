"""``sendtrace serve``: the live page, with what this floor and that of the workers bring to it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import cache, partial

from celery import Celery

from simulator.schema import open_database
from simulator.stack.broker import Broker
from simulator.web.runs import make_runs_router
from tracker.monitoring import CheckVerdict
from tracker.record.catalog import Campaign, load_campaign
from tracker.record.due import DueKind
from tracker.settings import Settings
from tracker.status import Step
from tracker.store.database import Database
from tracker.web.app import make_app
from tracker.web.context import WebSection
from tracker.web.monitoring import Monitoring, NotifyWorkers
from tracker.web.server import bind, check_address, serve, socket_url
from workers.checks.base import all_checks
from workers.queues import QUEUE_BY_STEP, QUEUES, format_task_arguments, task_name
from workers.rules import explain
from workers.rules.rejudge import Rules
from workers.upkeep.presence import WorkerListener

RUNS = WebSection("Runs", "/runs", make_runs_router, template_packages="simulator")


def serve_live_page(settings: Settings, host: str, port: int) -> None:
    """Serve the live page until Ctrl-C. Raises :exc:`UsageError` where that can't be begun."""
    check_address(host, settings.token)
    settings.prepare_home()
    with ExitStack() as stack:
        database = stack.enter_context(closing(open_database(settings)))
        bound = stack.enter_context(closing(bind(host, port)))
        monitoring = stack.enter_context(outside(database, settings))
        app = make_app(database, settings, monitoring, (RUNS,))
        print(f"the live page: {socket_url(bound)}", flush=True)
        serve(app, bound)


@contextmanager
def outside(database: Database, settings: Settings) -> Iterator[Monitoring]:
    """What there is beside the record, for as long as the block lasts."""
    shown = Monitoring(
        explain=partial(_explain_checks, database),
        queues=QUEUES,
        help_batch=_requeue_command,
        help_queue=_worker_command,
    )
    if not settings.broker_url:
        yield shown
        return
    broker = Broker(settings.broker_url)
    with (
        closing(broker),
        Celery("desk", set_as_current=False, config_source="celeryconfig") as app,
    ):
        app.conf.broker_url = settings.broker_url
        with WorkerListener(app) as listener:
            yield replace(
                shown,
                depths=broker.depths,
                presence=listener.snapshot,
                remind=_make_notifier(database, app),
            )


def _explain_checks(database: Database, campaign: Campaign, number: int) -> Sequence[CheckVerdict]:
    rules = Rules(campaign=campaign, checks=all_checks())
    return explain.explain(database, rules, number, campaign.clock.now()).verdicts


def _make_notifier(database: Database, app: Celery) -> NotifyWorkers:
    @cache
    def name_of(campaign_id: int) -> str:
        with database.read() as connection:
            return load_campaign(connection, campaign_id).name

    def remind(campaign_id: int, batch: int, what: DueKind, *, alone: bool) -> None:
        step = Step.DELIVER if what is DueKind.RECEIPTS else Step.ENGAGE
        app.send_task(
            task_name(step),
            kwargs={"campaign": campaign_id, "batch": batch, "is_one_off": alone},
            kwargsrepr=format_task_arguments(campaign_id, name_of(campaign_id), batch),
            queue=QUEUE_BY_STEP[step],
            retry=False,
        )

    return remind


def _requeue_command(campaign_id: int, batch: int, step: str) -> str:
    arguments = json.dumps({"campaign": campaign_id, "batch": batch})
    return f"celery -A workers.app call {task_name(Step(step))} --kwargs='{arguments}'"


def _worker_command(queue: str) -> str:
    return f"celery -A workers.app worker -Q {queue}"
