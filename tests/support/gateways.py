"""Submit messages to real gateways in tests."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.factory import READY, Plan, make_batch, move, step_context
from tracker.clock import Instant
from tracker.queries import timeline
from tracker.record.catalog import Batch
from tracker.status import Status
from tracker.store.database import Database
from tracker.store.schema.messages import transitions
from workers.gateways.base import Gateway
from workers.gateways.throttle import Grant
from workers.steps import at_gateway


def make_ready_batch(
    database: Database,
    *addresses: str,
    attempts: int = 2,
    message: str = "{}",
    credit: int | None = None,
    custom: Sequence[str] = (),
    kind: str = "smtp",
) -> Batch:
    """Record a batch of messages to these addresses that are about to be sent."""
    people: dict[int, dict[str, object]] = {
        number: {"email": address} for number, address in enumerate(addresses)
    }
    for number, fields in enumerate(custom):
        people[number]["custom"] = fields
    plan = Plan(
        size=len(addresses),
        gateway_kind=kind,
        gateway_settings="{}",
        attempts=attempts,
        message=message,
        credit=credit,
    )
    batch = make_batch(database, plan, people)
    move(database, batch, range(len(addresses)), READY)
    return batch


def read_details(database: Database, batch: Batch, number: int) -> list[str | None]:
    """Return the details of the events in a message's timeline."""
    with database.read() as connection:
        message = timeline.read_timeline(connection, batch.campaign, number)
    return [event.detail for event in message.events if event.detail]


def read_acceptance_times(database: Database, batch: Batch) -> dict[int, Instant]:
    """Return when each message entered the gateway for the first time."""
    query = sa.select(transitions.c.number, transitions.c.at).filter_by(
        campaign_id=batch.campaign.id, status=Status.IN_GATEWAY, attempt=1
    )
    with database.read() as connection:
        return dict(map(tuple, connection.execute(query)))


def submit(
    database: Database,
    batch: Batch,
    gateway: Gateway,
    *,
    unavailable_count: int = 0,
    granted: int = 99,
) -> None:
    """Submit what waits, after the gateway was unavailable so many times in a row."""
    context = replace(step_context(database, batch), unavailable_count=unavailable_count)
    at_gateway.submit(context, gateway, FixedThrottle(granted))


class FixedThrottle:
    """A throttle that grants the same number of messages each time."""

    keeps_to_instants = False

    def __init__(self, granted: int) -> None:
        self.max_grant = self._granted = granted

    def acquire(self, _batch: Batch, wanted: int, _ready_at: Instant | None = None) -> Grant:
        return Grant(min(self._granted, wanted))


def make_certificate(folder: Path) -> Path:
    """Make a certificate for the server, beside its key, that no client trusts yet."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem"
