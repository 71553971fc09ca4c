"""What a worker process holds while it lives: the database and the gateways."""

import gc
from functools import cache

from celery.signals import worker_process_init
from redis import Redis

from tracker.errors import UsageError
from tracker.record.catalog import Batch, Campaign, load_batch, load_campaign
from tracker.settings import load_settings
from tracker.store.database import Database, connect
from tracker.store.migrate import migrate
from workers.gateways.base import Gateway
from workers.gateways.safety import open_gateway
from workers.gateways.throttle import RateLimit, SharedThrottle, Throttle, UnlimitedThrottle
from workers.services.base import Services, load_services_factory
from workers.steps.limits import limit_memory
from workers.upkeep.broker import make_broker_client


@cache
def database() -> Database:
    """The database of this process, its tables up to date."""
    opened = connect(load_settings().resolved_database_url)
    migrate(opened)
    return opened


@worker_process_init.connect  # type: ignore[untyped-decorator]  # Celery comes without types
def set_up_pool_process(**_: object) -> None:
    """Begin the life of a pool child: with connections of its own, and a calmer collector."""
    database.cache_clear()
    campaign_name.cache_clear()
    _cached_gateway.cache_clear()
    _cached_services.cache_clear()
    _cached_throttle.cache_clear()
    broker.cache_clear()
    # What is there by now stays. A batch adds some ten thousand small tuples that live for a moment
    # and hold no cycles: with the default threshold the collector goes through them again and
    # again. Much more than a batch's would keep the lists in forgotten queries too long.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def limit_pool_process_memory(**_: object) -> None:
    """See to it that a message that eats memory does not take the machine's."""
    limit_memory()


GC_THRESHOLD = 25_000
"""New objects between two runs of the garbage collector: about one run a step."""


def load_task_batch(campaign: int, batch: int) -> Batch:
    """The batch that a task is about."""
    with database().read() as connection:
        return load_batch(connection, campaign, batch)


@cache
def campaign_name(campaign: int) -> str:
    """The name of a campaign, which never changes."""
    with database().read() as connection:
        return load_campaign(connection, campaign).name


def gateway_of(campaign: Campaign) -> Gateway:
    """The gateway that takes over the campaign's messages."""
    return _cached_gateway(campaign.gateway_id, campaign.gateway_kind, campaign.gateway_settings)


@cache
def _cached_gateway(_gateway_id: int, kind: str, settings: str) -> Gateway:
    return open_gateway(kind, settings, database())


def throttle_of(campaign: Campaign) -> Throttle:
    """What holds the campaign's gateway to its rate."""
    if campaign.gateway_rate is None:
        return UnlimitedThrottle()
    # Ids are of one database, and a broker may serve several: the run's start tells them apart.
    name = f"{campaign.started_at}:{campaign.gateway_id}"
    return _cached_throttle(name, campaign.gateway_rate, campaign.speed)


@cache
def _cached_throttle(name: str, rate: int, speed: float) -> Throttle:
    return SharedThrottle(broker(), name, RateLimit(rate=rate, speed=speed))


@cache
def broker() -> Redis:
    """The broker, for what Celery does not do with it."""
    url = load_settings().broker_url
    if not url:
        raise UsageError("no broker is configured; set SENDTRACE_BROKER_URL")
    return make_broker_client(url, timeout=BROKER_TIMEOUT_SECONDS)


BROKER_TIMEOUT_SECONDS = 5.0
"""Seconds that the broker has for an answer; it takes less than a millisecond."""


def services_of(campaign: Campaign) -> Services:
    """The services that the campaign's messages need."""
    return _cached_services(campaign.services_kind, campaign.services_settings)


@cache
def _cached_services(kind: str, settings: str) -> Services:
    return load_services_factory(kind)(settings, database())
