"""What a worker process holds while it lives: the database and the gateways."""

from functools import cache

from celery.signals import worker_process_init

from tracker.catalog import Batch, Campaign, load_batch
from tracker.database import Database, connect, migrate
from tracker.settings import load_settings
from workers.gateways.base import Gateway, factory_of


@cache
def database() -> Database:
    """The database of this process, its tables up to date."""
    opened = connect(load_settings().database)
    migrate(opened)
    return opened


@worker_process_init.connect
def forget_parent(**_: object) -> None:
    """A connection does not survive a fork: a pool child opens its own."""
    database.cache_clear()
    _gateway.cache_clear()


def take_up(campaign: int, batch: int) -> Batch:
    """The batch that a task is about."""
    with database().read() as connection:
        return load_batch(connection, campaign, batch)


def gateway_of(campaign: Campaign) -> Gateway:
    """The gateway that takes over the campaign's messages."""
    return _gateway(campaign.gateway_id, campaign.gateway_kind, campaign.gateway_settings)


@cache
def _gateway(_gateway_id: int, kind: str, settings: str) -> Gateway:
    return factory_of(kind)(settings, database())
