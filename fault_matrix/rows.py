"""The rows of the fault matrix: what goes wrong in each, and how it is known that it did."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fault_matrix.disturbances import DisturbedRun, fill_disk, stop_database, sweep_concurrently
from fault_matrix.record import RecordCounts

POISON_ADDRESSES = ("poison-raise", "poison-kill", "poison-memory")
"""Addresses at the simulated gateway's domain that break a step."""

ResultJson = Mapping[str, Any]
"""The result of a run, as `simulate --json` writes it."""


@dataclass(frozen=True)
class FaultRow:
    """A row of the matrix: a run in which something goes wrong.

    Attributes:
        faults: faults of the scenario, in TOML.
        gateway: further settings of the gateway, in TOML.
        disturb: what is done to the run from outside, while it is in progress.
        evidence: what shows that the fault has met the run, from the record and the result. In any
            row, each fault of the scenario must have been injected, and `disturb` must have met
            the run.
        lasts_to_end: whether the fault goes on until the run ends, so nothing recovers from it.
        kills_driver: whether the driver is killed and the run resumed.
        only_database: the kind of database that the row is for; None for both.
        has_poison_messages: whether a second campaign has the POISON_ADDRESSES.
        has_small_disk: whether the database is on a disk that can be filled.
        is_blast: whether all messages arrive at once.
        arrival_seconds: time in which all messages arrive; None for ARRIVAL_RATE.
    """

    name: str
    faults: tuple[str, ...] = ()
    gateway: str = ""
    disturb: Callable[[DisturbedRun], None] | None = None
    evidence: Callable[[RecordCounts, ResultJson], bool] | None = None
    lasts_to_end: bool = False
    kills_driver: bool = False
    only_database: str | None = None
    has_poison_messages: bool = False
    has_small_disk: bool = False
    is_blast: bool = False
    arrival_seconds: float | None = None


def _at(fault: str, *seconds: float) -> tuple[str, ...]:
    return tuple(f'{{ at = "{moment:g}s", {fault} }}' for moment in seconds)


def batch_requeued(record: RecordCounts, _result: ResultJson) -> bool:
    """Return whether a sweep re-queued a batch."""
    return record.requeued_count > 0


def message_repeated(record: RecordCounts, _result: ResultJson) -> bool:
    """Return whether the gateway was offered a message again for the same attempt."""
    return record.repeats > 0


def poison_isolated(record: RecordCounts, _result: ResultJson) -> bool:
    """Return whether each poison message ended alone."""
    return record.poison_messages == len(POISON_ADDRESSES)


def outcome_slow(_record: RecordCounts, result: ResultJson) -> bool:
    """Return whether an outcome took over 5 s; the slowest of 20,000 usually takes 2.5 s."""
    return (result["figures"]["main.gateway_to_outcome.max"] or 0) > 5


def gateway_refused(_record: RecordCounts, result: ResultJson) -> bool:
    """Return whether the gateway refused a message."""
    return (result["figures"]["gateway.refused"] or 0) > 0


FAULT_ROWS = (
    FaultRow("nothing"),
    FaultRow("pool process killed, 5 times", _at('kill = "pool-child"', 0.5, 1, 1.5, 2, 2.5)),
    FaultRow(
        "worker killed, 3 times",
        _at('kill = "worker"', 1, 5, 9),
        arrival_seconds=10,
        evidence=batch_requeued,
    ),
    FaultRow("worker restarted, twice", _at('restart = "worker"', 1, 5), arrival_seconds=6),
    # PostgreSQL's server must have run for 30 s before a run counts as abandoned.
    FaultRow(
        "driver killed and resumed", kills_driver=True, arrival_seconds=6, only_database="sqlite"
    ),
    FaultRow("broker restarted", _at('restart = "broker"', 1)),
    FaultRow("broker restarted, data lost", _at('restart = "broker", data = "lost"', 1)),
    FaultRow(
        "broker flushed", _at('flush = "broker"', 0.5), is_blast=True, evidence=batch_requeued
    ),
    FaultRow("database stopped 5 s", disturb=stop_database),
    FaultRow(
        "database silent 5 s", _at('pause = "database", for = "5s"', 1), only_database="postgresql"
    ),
    FaultRow(
        "connections cut 10 s", _at('partition = "workers", connections = "cut", for = "10s"', 1)
    ),
    FaultRow("connections stalled 10 s", _at('partition = "workers", for = "10s"', 1)),
    FaultRow("5 % of tasks twice", _at("duplicate_tasks = 0.05", 0), lasts_to_end=True),
    FaultRow("poison messages", has_poison_messages=True, evidence=poison_isolated),
    FaultRow("clock put forward 1 h", _at('clock = "+1h"', 1)),
    FaultRow(
        "gateway 10 times slower",
        gateway='slow = { from = "1s", to = "3s", factor = 10 }',
        evidence=outcome_slow,
    ),
    FaultRow("gateway refuses 30 %", gateway="reject_rate = 0.3", evidence=gateway_refused),
    FaultRow(
        "killed between acceptance and commit",
        _at('kill = "pool-child", when = "accepted"', 0.5),
        evidence=message_repeated,
    ),
    FaultRow("disk full 5 s", disturb=fill_disk, only_database="sqlite", has_small_disk=True),
    FaultRow(
        "sweeps at once, broker flushed",
        _at('flush = "broker"', 0.5),
        disturb=sweep_concurrently,
        is_blast=True,
        evidence=batch_requeued,
    ),
)
