"""Judge the health of all parts from facts, and name the root cause first.

A part whose state can't be known while another is down is `unknown`, not down. So one broken part
is shown once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from tracker.monitoring import QueueDepth, WorkerActivity
from tracker.text import format_bytes, pluralize
from tracker.web.health.probes import Finding

FULL_DISK_BYTES = 1_000_000
"""Free bytes below which a disk counts as full."""

LOW_DISK_BYTES, LOW_DISK_SHARE = 1_000_000_000, 0.05
"""Free bytes, and share of the disk, below both of which a disk needs attention."""

SWEEP_OVERDUE_SECONDS = 30.0
"""Seconds without a sweep after which beat counts as dead. A sweep is due every two seconds."""

FULL_DISK_ERRORS = ("disk is full", "no space left", "disk full")
"""What the errors of databases and brokers say of a full disk."""


class Part(StrEnum):
    """A part that sendtrace needs, in the order in which causes are named."""

    DISK = "disk"
    DATABASE = "database"
    BROKER = "broker"
    WORKERS = "workers"
    BEAT = "beat"
    GATEWAYS = "gateways"


class Condition(StrEnum):
    """The condition of a part."""

    OK = "ok"
    ATTENTION = "attention"
    """It works; a person should look at it."""
    DOWN = "down"
    UNKNOWN = "unknown"
    """It can't be known now, such as the workers while the broker is down."""
    NOT_MONITORED = "not_monitored"


@dataclass(frozen=True, kw_only=True)
class PartHealth:
    """The health of one part.

    Attributes:
        summary: what is the matter, as a sentence without a full stop.
        since: since when, None if it is unknown or nothing is the matter.
        as_of: time of the last check that succeeded, None if there was none.
    """

    condition: Condition
    summary: str
    since: datetime | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Health:
    """The health of all parts.

    Attributes:
        cause: the part that explains the others, None if nothing needs attention.
        waiting: messages of unfinished campaigns that the gateway hasn't accepted yet.
    """

    parts: Mapping[Part, PartHealth]
    cause: Part | None
    waiting: int = 0

    @property
    def condition(self) -> Condition:
        """The condition of the whole: that of the cause."""
        return Condition.OK if self.cause is None else self.parts[self.cause].condition

    @property
    def is_moving(self) -> bool:
        """True unless a part is down that every message needs."""
        return all(
            self.parts[part].condition is not Condition.DOWN
            for part in (Part.DISK, Part.DATABASE, Part.BROKER, Part.WORKERS, Part.BEAT)
        )

    def as_json(self, *, has_details: bool) -> dict[str, Any]:
        """Return the health as other programs read it; the keys are a contract.

        Without `has_details` the summaries, which name hosts and campaigns, are left out.
        """

        def part_json(health: PartHealth) -> dict[str, Any]:
            described: dict[str, Any] = {"status": health.condition}
            if has_details:
                described["summary"] = health.summary
            for name, at in (("since", health.since), ("as_of", health.as_of)):
                described[name] = None if at is None else at.isoformat(timespec="seconds")
            return described

        return {
            "status": self.condition,
            "cause": self.cause,
            "parts": {part: part_json(health) for part, health in self.parts.items()},
        }


class DiskSpace(NamedTuple):
    """The disk below a folder; sizes in bytes."""

    path: str
    free: int
    total: int


class BrokerFacts(NamedTuple):
    """The answer of a broker.

    Attributes:
        sweep_age: seconds since the last sweep began, None if none is known.
    """

    depths: Mapping[str, QueueDepth]
    sweep_age: float | None


class GatewayTrouble(NamedTuple):
    """An unavailable gateway of a campaign, and how many messages wait for it."""

    campaign: str
    error: str
    since: datetime
    is_refusing: bool
    waiting: int


@dataclass(frozen=True, kw_only=True)
class HealthFacts:
    """What the judgement rests on.

    Attributes:
        broker: None if no broker is configured.
        activity: None if workers aren't monitored.
        queues: the queues that need a worker each; the last one serves beat.
        read_error: why the numbers of the page couldn't be read, None if they could.
    """

    database: Finding[None]
    disks: Finding[Sequence[DiskSpace]]
    broker: Finding[BrokerFacts] | None = None
    activity: WorkerActivity | None = None
    queues: Sequence[str] = ()
    gateways: Sequence[GatewayTrouble] = ()
    waiting: int = 0
    read_error: str | None = None
    read_error_since: datetime | None = None


def judge_health(facts: HealthFacts) -> Health:
    """Return the health of all parts, and the cause."""
    parts = {
        Part.DISK: _judge_disks(facts),
        Part.DATABASE: _judge_database(facts),
        Part.BROKER: _judge_broker(facts.broker),
    }
    parts[Part.WORKERS] = _judge_workers(facts, parts[Part.BROKER])
    parts[Part.BEAT] = _judge_beat(facts, parts)
    parts[Part.GATEWAYS] = _judge_gateways(facts, parts[Part.BROKER])
    cause = None
    for condition in (Condition.ATTENTION, Condition.DOWN):
        affected = [part for part in Part if parts[part].condition is condition]
        cause = affected[0] if affected else cause
    return Health(parts=parts, cause=cause, waiting=facts.waiting)


def find_unserved_queues(activity: WorkerActivity | None, queues: Sequence[str]) -> list[str]:
    """Return the queues that no worker serves; none while that is unknown."""
    if activity is None or activity.disconnected_since is not None or not activity.is_inspected:
        return []
    served = {queue for worker in activity.workers if worker.is_online for queue in worker.queues}
    return [queue for queue in queues if queue not in served]


def _judge_disks(facts: HealthFacts) -> PartHealth:
    failures = [(facts.database.error, facts.database.failing_since)]
    if facts.broker is not None:
        failures.append((facts.broker.error, facts.broker.failing_since))
    disks = facts.disks.value or ()
    as_of = facts.disks.value_at
    for error, since in failures:
        if error and any(sign in error.lower() for sign in FULL_DISK_ERRORS):
            local = ", ".join(f"{format_bytes(disk.free)} free on {disk.path}" for disk in disks)
            return PartHealth(
                condition=Condition.DOWN,
                summary=f"Disk full: {error} ({local})",
                since=since,
                as_of=as_of,
            )
    if not disks:
        return PartHealth(condition=Condition.UNKNOWN, summary="Not checked yet", as_of=as_of)
    disk = min(disks, key=lambda space: space.free)
    summary = f"{format_bytes(disk.free)} of {format_bytes(disk.total)} free on {disk.path}"
    if disk.free < FULL_DISK_BYTES:
        return PartHealth(condition=Condition.DOWN, summary=f"Disk full: {summary}", as_of=as_of)
    is_low = disk.free < LOW_DISK_BYTES and disk.free < LOW_DISK_SHARE * disk.total
    condition = Condition.ATTENTION if is_low else Condition.OK
    return PartHealth(condition=condition, summary=summary, as_of=as_of)


def _judge_database(facts: HealthFacts) -> PartHealth:
    database = facts.database
    error, since = database.error, database.failing_since
    if error is None and facts.read_error is not None:
        error, since = facts.read_error, facts.read_error_since
    if error is not None:
        summary = f"Database unavailable: {error}"
        if facts.read_error is None:
            summary = f"Database can't be written: {error}"
        return PartHealth(
            condition=Condition.DOWN, summary=summary, since=since, as_of=database.value_at
        )
    if database.value_at is None:
        return PartHealth(condition=Condition.UNKNOWN, summary="Not checked yet")
    return PartHealth(condition=Condition.OK, summary="Writable", as_of=database.value_at)


def _judge_broker(broker: Finding[BrokerFacts] | None) -> PartHealth:
    if broker is None:
        return PartHealth(condition=Condition.NOT_MONITORED, summary="No broker is configured")
    if broker.error is not None:
        return PartHealth(
            condition=Condition.DOWN,
            summary=f"Broker unavailable: {broker.error}",
            since=broker.failing_since,
            as_of=broker.value_at,
        )
    if broker.value_at is None:
        return PartHealth(condition=Condition.UNKNOWN, summary="Not checked yet")
    return PartHealth(condition=Condition.OK, summary="Answers", as_of=broker.value_at)


def _behind_broker(broker: PartHealth) -> PartHealth | None:
    """Return the health of a part that only the broker can tell, None while the broker answers."""
    match broker.condition:
        case Condition.OK:
            return None
        case Condition.NOT_MONITORED:
            return broker
        case _:
            summary = "Unknown while the broker doesn't answer"
            return PartHealth(condition=Condition.UNKNOWN, summary=summary, as_of=broker.as_of)


def _judge_workers(facts: HealthFacts, broker: PartHealth) -> PartHealth:
    hidden = _behind_broker(broker)
    activity = facts.activity
    if hidden is not None:
        return hidden
    if activity is None or activity.disconnected_since is not None or not activity.is_inspected:
        return PartHealth(condition=Condition.UNKNOWN, summary="Waiting for the workers' events")
    unserved = find_unserved_queues(activity, facts.queues)
    silent = [worker for worker in activity.workers if not worker.is_online]
    heard_at = max((worker.heard_at for worker in silent), default=None)
    if unserved:
        summary = f"No worker serves {', '.join(unserved)}"
        if len(unserved) == len(facts.queues):
            summary = "No worker is online"
        return PartHealth(condition=Condition.DOWN, summary=summary, since=heard_at)
    if silent:
        summary = f"Silent: {', '.join(worker.name for worker in silent)}"
        return PartHealth(condition=Condition.ATTENTION, summary=summary, since=heard_at)
    late = [worker for worker in activity.workers if worker.is_late]
    if late:
        summary = f"No heartbeat lately: {', '.join(worker.name for worker in late)}"
        since = min(worker.heard_at for worker in late)
        return PartHealth(condition=Condition.ATTENTION, summary=summary, since=since)
    summary = f"{pluralize(len(activity.workers), 'worker')} online, every queue is served"
    return PartHealth(condition=Condition.OK, summary=summary)


def _judge_beat(facts: HealthFacts, parts: Mapping[Part, PartHealth]) -> PartHealth:
    """Return the health of beat, given that of the parts before it."""
    broker = parts[Part.BROKER]
    hidden = _behind_broker(broker)
    if hidden is not None:
        return hidden
    upkeep_queue = facts.queues[-1:]
    is_hidden = parts[Part.WORKERS].condition is Condition.UNKNOWN
    if is_hidden or find_unserved_queues(facts.activity, upkeep_queue):
        summary = f"Unknown while no worker serves {', '.join(upkeep_queue)}"
        return PartHealth(condition=Condition.UNKNOWN, summary=summary)
    answer = facts.broker and facts.broker.value
    age = answer.sweep_age if answer else None
    if age is None or age > SWEEP_OVERDUE_SECONDS:
        for part in (Part.DISK, Part.DATABASE):
            if parts[part].condition is Condition.DOWN:  # a sweep waits for both
                summary = f"Unknown while the {part} is down: sweeps need it"
                return PartHealth(condition=Condition.UNKNOWN, summary=summary)
    if age is None:
        return PartHealth(
            condition=Condition.ATTENTION,
            summary="No sweep has run: beat isn't running, and stalled batches stay stalled",
        )
    if age > SWEEP_OVERDUE_SECONDS:
        summary = f"No sweep for {age:.0f} s: beat isn't running, or its task hangs"
        return PartHealth(condition=Condition.DOWN, summary=summary)
    return PartHealth(condition=Condition.OK, summary="Sweeps run", as_of=broker.as_of)


def _judge_gateways(facts: HealthFacts, broker: PartHealth) -> PartHealth:
    hidden = _behind_broker(broker)
    if hidden is not None:
        return hidden
    if not facts.gateways:
        return PartHealth(condition=Condition.OK, summary="No gateway is known to be unavailable")
    return PartHealth(
        condition=Condition.DOWN,
        summary="; ".join(map(describe_gateway, facts.gateways)),
        since=min(gateway.since for gateway in facts.gateways),
    )


def describe_gateway(gateway: GatewayTrouble) -> str:
    """Return what is the matter with a gateway, as a sentence without a full stop."""
    verb = "refuses messages" if gateway.is_refusing else "is unavailable"
    waiting = pluralize(gateway.waiting, "message")
    return f"The gateway of {gateway.campaign} {verb}: {gateway.error}; {waiting} waiting"
