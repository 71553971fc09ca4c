"""``sendtrace serve``: the live page, with what this floor and that of the workers bring to it."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cache

from celery import Celery

from simulator.broker import Broker
from simulator.run import open_database
from simulator.runs_desk import make_runs
from tracker.catalog import Campaign, load_campaign
from tracker.database import Database
from tracker.expectations import Expected
from tracker.settings import Settings
from tracker.status import Step
from tracker.web.app import make_app
from tracker.web.outside import Depth, Opinion, Outside, Section
from tracker.web.server import address_of, bind, check_address, serve
from workers import explanation
from workers.checks.base import all_checks
from workers.queues import QUEUE_OF, shown_arguments, task_name
from workers.trial import Rules


def run_desk(settings: Settings, host: str, port: int) -> None:
    """Serve the live page until Ctrl-C. Raises :exc:`UsageError` where that can't be begun."""
    check_address(host, settings.token)
    settings.prepare_home()
    with closing(open_database(settings)) as database, closing(bind(host, port)) as bound:
        app = make_app(database, settings, outside(database, settings))
        print(f"the live page: {address_of(bound)}", flush=True)
        serve(app, bound)


def outside(database: Database, settings: Settings) -> Outside:
    """What there is beside the record."""
    broker = Broker(settings.broker_url) if settings.broker_url else None
    app = Celery("desk", set_as_current=False, config_source="celeryconfig")
    app.conf.broker_url = settings.broker_url

    def depths() -> Mapping[str, Depth]:
        return (
            {}
            if broker is None
            else {name: Depth(each.ready, each.unacked) for name, each in broker.depths().items()}
        )

    def remind(campaign_id: int, batch: int, what: Expected, *, alone: bool) -> None:
        step = Step.DELIVER if what is Expected.RECEIPTS else Step.ENGAGE
        app.send_task(
            task_name(step),
            kwargs={"campaign": campaign_id, "batch": batch, "alone": alone},
            kwargsrepr=shown_arguments(campaign_id, name_of(campaign_id), batch),
            queue=QUEUE_OF[step],
            retry=False,
        )

    @cache
    def name_of(campaign_id: int) -> str:
        with database.read() as connection:
            return load_campaign(connection, campaign_id).name

    def explain(campaign: Campaign, number: int) -> Sequence[Opinion]:
        rules = Rules(campaign=campaign, checks=all_checks())
        explained = explanation.explain(database, rules, number, campaign.clock.now())
        return [
            Opinion(
                step=each.check.step,
                check=each.check.name,
                reason=None if each.reason is None else each.reason.title,
                looked_at=each.looked_at,
                error=each.error,
            )
            for each in explained.opinions
        ]

    return Outside(
        depths=None if broker is None else depths,
        remind=None if broker is None else remind,
        explain=explain,
        sections=(Section("Runs", "/runs", make_runs),),
        templates=("simulator",),
    )
