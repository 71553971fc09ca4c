"""Coherent rows for tests: a campaign with customers, and messages in the states that are wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from tracker import catalog
from tracker.catalog import Batch, Campaign
from tracker.clock import SystemClock
from tracker.database import Database
from tracker.journal import QUEUED, Author, Move, State, enqueue, entry
from tracker.schema import customers
from tracker.status import Channel, Status, Step

AUTHOR = Author(worker="test", task_id="task-1")
READY = State(status=Status.ABOUT_TO_BE_SENT)


def in_gateway(attempt: int = 1) -> State:
    """The state of a message on an attempt."""
    return State(status=Status.IN_GATEWAY, attempt=attempt)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a campaign for a test is like."""

    name: str = "spring"
    channel: Channel = Channel.EMAIL
    size: int = 10
    requires: Sequence[str] = ()
    attempts: int = 3
    credit: int | None = None
    enabled: bool = True
    gateway_kind: str = "simulated"
    gateway_settings: str = '{"seed": 1, "behaviour": {"attempts": 3}}'


def make_campaign(
    database: Database, plan: Plan | None = None, people: Mapping[int, Mapping[str, object]] = {}
) -> Campaign:
    """A campaign in a run of its own, whose customers have all they need but for ``people``.

    ``people`` says what is different about the customer of a number.
    """
    plan = plan or Plan()
    with database.write() as connection:
        run_id = catalog.record_run(
            connection,
            scenario="test",
            seed=1,
            started_at=SystemClock().now(),
            speed=1.0,
            definition="",
        )
        organization_id = catalog.record_organization(
            connection,
            run_id,
            name="Acme",
            enabled=plan.enabled,
            credit=plan.credit,
            hard_bounce_limit=1,
            soft_bounce_limit=3,
        )
        gateway_id = catalog.record_gateway(
            connection, run_id, kind=plan.gateway_kind, settings=plan.gateway_settings
        )
        audience_id = catalog.record_audience(connection, organization_id, "test")
        for number in range(plan.size):
            sound = {
                "audience_id": audience_id,
                "number": number,
                "customer_id": f"c{number}",
                "email": f"customer{number}@example.com",
                "mobile": "+447700900000",
                "mobile_e164": "+447700900000",
                "loyalty_member": True,
                "last_store": "Store 1",
                "profile": "standard",
            }
            values = {**sound, **people.get(number, {})}
            connection.execute(sa.insert(customers).values(values))
        campaign_id = catalog.record_campaign(
            connection,
            run_id,
            organization_id=organization_id,
            audience_id=audience_id,
            gateway_id=gateway_id,
            name=plan.name,
            channel=plan.channel,
            requires=plan.requires,
            attempts=plan.attempts,
        )
        return catalog.load_campaign(connection, campaign_id)


def make_batch(database: Database, plan: Plan | None = None) -> Batch:
    """A campaign's only batch, all of it queued."""
    plan = plan or Plan()
    campaign = make_campaign(database, plan)
    return enqueue(database, campaign, batch=0, first=0, size=plan.size, by=AUTHOR)


def move(
    database: Database,
    batch: Batch,
    numbers: Sequence[int],
    *states: State,
    step: Step = Step.DISPATCH,
) -> None:
    """Take messages from queued through ``states``, one journal entry each."""
    source = QUEUED
    for target in states:
        now = batch.campaign.clock.now()
        with entry(database, batch, step, AUTHOR, started_at=now) as written:
            moved = written.move(Move(numbers=numbers, source=source, target=target, at=now))
        assert moved == len(numbers), "the factory moves only what is there"
        source = target
