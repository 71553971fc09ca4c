"""The resources of a worker process: database, broker, gateways, services and throttles."""

import gc
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from celery.signals import worker_process_init
from redis import Redis

from tracker.errors import UsageError
from tracker.record.catalog import Batch, Campaign, load_batch
from tracker.record.monitoring.counters import Counters
from tracker.settings import load_settings
from tracker.store.applied_migrations import SchemaWatch
from tracker.store.database import Database, connect
from tracker.store.migrate import TRACKER_MIGRATIONS, prepare_schema
from workers.gateways.base import Gateway, load_gateway_kind
from workers.gateways.counted import CountedGateway
from workers.gateways.safety import open_gateway
from workers.gateways.throttle import RateLimit, SharedThrottle, Throttle, UnlimitedThrottle
from workers.services.base import Services, load_services_factory
from workers.steps.limits import limit_memory
from workers.upkeep.broker import make_broker_client

T = TypeVar("T")

BROKER_TIMEOUT_SECONDS = 5.0
"""Seconds to wait for the broker's answer, which takes less than a millisecond."""

GC_THRESHOLD = 25_000
"""New objects between two runs of the garbage collector: about one run a step."""


class Resources:
    """The resources of one process, each opened on first use and then kept."""

    def __init__(self) -> None:
        self._opened: dict[object, Any] = {}
        self.counters = Counters()

    @cached_property
    def database(self) -> Database:
        """The database of the settings, with the tables of this version.

        Raises:
            SchemaMismatch: its tables don't suit this version.
        """
        opened = connect(load_settings().resolved_database_url)
        prepare_schema(opened, TRACKER_MIGRATIONS, accepts_compatible=True)
        return opened

    @cached_property
    def _schema_watch(self) -> SchemaWatch:
        return SchemaWatch(self.database)

    def open_checked_database(self) -> Database:
        """Return the database, unless its schema was changed incompatibly meanwhile.

        Raises:
            SchemaMismatch: it was.
        """
        watch = self._schema_watch
        with self.database.read() as connection:
            watch.check(connection)
        return self.database

    @cached_property
    def broker(self) -> Redis:
        """A client of the broker, for what Celery doesn't do there."""
        url = load_settings().broker_url
        if not url:
            raise UsageError("no broker configured; set SENDTRACE_BROKER_URL")
        return make_broker_client(url, timeout=BROKER_TIMEOUT_SECONDS)

    def load_batch(self, campaign: int, batch: int) -> Batch:
        """Return a batch with its campaign, as recorded now.

        Each step begins with this, so it looks for changes of the schema as well.

        Raises:
            SchemaMismatch: the schema was changed incompatibly.
        """
        watch = self._schema_watch
        with self.database.read() as connection:
            watch.check(connection)
            return load_batch(connection, campaign, batch)

    def gateway_of(self, campaign: Campaign) -> Gateway:
        """Return the gateway that accepts the campaign's messages."""
        kind, settings = campaign.gateway_kind, campaign.gateway_settings
        key = (campaign.gateway_id, kind, settings)
        return self._open_once(
            key,
            lambda: CountedGateway(
                open_gateway(kind, settings, self.database), kind, self.counters
            ),
        )

    def services_of(self, campaign: Campaign) -> Services:
        """Return the services that the campaign's checks and handler call."""
        kind, settings = campaign.services_kind, campaign.services_settings
        factory = load_services_factory(kind)
        return self._open_once((kind, settings), lambda: factory(settings, self.database))

    def throttle_of(self, campaign: Campaign) -> Throttle:
        """Return the throttle that keeps the campaign's gateway at its rate."""
        if campaign.gateway_rate is None:
            return UnlimitedThrottle()
        # A gateway's id is unique in its database only, and one broker may serve several databases.
        name = f"{campaign.really_started_at}:{campaign.gateway_id}"
        limit = RateLimit(
            rate=campaign.gateway_rate,
            speed=campaign.speed,
            keeps_to_instants=load_gateway_kind(campaign.gateway_kind).keeps_to_instants,
        )
        return self._open_once((name, limit), lambda: SharedThrottle(self.broker, name, limit))

    def _open_once(self, key: object, make: Callable[[], T]) -> T:
        if key not in self._opened:
            self._opened[key] = make()
        resource: T = self._opened[key]
        return resource


_resources = Resources()


def resources() -> Resources:
    """Return the resources of this process."""
    return _resources


def replace_resources(new: Resources) -> None:
    """Use other resources in this process from now on."""
    global _resources
    _resources = new


@worker_process_init.connect  # type: ignore[untyped-decorator]  # Celery has no types
def set_up_pool_process(**_: object) -> None:
    """Give a pool process resources of its own, since connections don't survive a fork."""
    replace_resources(Resources())
    # A batch creates some ten thousand small tuples that live for a moment and hold no cycles. With
    # the default threshold the collector scans them again and again; a much higher one would keep
    # the lists of finished queries for too long.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def limit_pool_process_memory(**_: object) -> None:
    """Limit the memory of a pool process, so one message can't exhaust the machine's."""
    limit_memory()
