"""The table of a fault to inject, and the record of one that was injected."""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from simulator.values import (
    Duration,
    InvalidKey,
    PositiveDuration,
    ScenarioSection,
    Share,
    format_value,
    parse_positive_duration,
)


def _parse_clock_advance(value: object) -> timedelta:
    if not isinstance(value, str) or re.match(r"\+\s*\d", value) is None:
        raise ValueError(
            f'got {format_value(value)}; expected a duration to advance by, like "+1h"'
        )
    return parse_positive_duration(value[1:].strip())


class FaultKind(StrEnum):
    """A kind of fault, and the key that asks for it."""

    KILL = "kill"
    RESTART = "restart"
    FLUSH = "flush"
    PAUSE = "pause"
    PARTITION = "partition"
    DUPLICATE_TASKS = "duplicate_tasks"
    CLOCK = "clock"


KINDS_WITH_DURATION = frozenset({FaultKind.PAUSE, FaultKind.PARTITION})
"""Kinds of faults that end by themselves."""


class FaultSection(ScenarioSection):
    """A fault that is injected into sendtrace's own stack: exactly one of the kinds.

    The kinds are `kill`, `restart`, `flush`, `pause`, `partition`, `duplicate_tasks` and `clock`.
    """

    at: Annotated[Duration, Field(examples=["5s"])]
    """Simulated time of the fault, after the start of the run."""
    kill: Annotated[Literal["worker", "pool-child"] | None, Field(examples=["worker"])] = None
    """Kill the worker, or the pool process that has used the most CPU time."""
    restart: Annotated[Literal["broker", "worker"] | None, Field(examples=["broker"])] = None
    """Restart the broker or the worker."""
    flush: Annotated[Literal["broker"] | None, Field(examples=["broker"])] = None
    """Delete everything that the broker holds."""
    pause: Annotated[Literal["database"] | None, Field(examples=["database"])] = None
    """Stall all connections to the database for some time; PostgreSQL only."""
    partition: Annotated[Literal["workers"] | None, Field(examples=["workers"])] = None
    """Disrupt the workers' connections to broker and database for some time."""
    duplicate_tasks: Annotated[Share | None, Field(examples=[0.05])] = None
    """Deliver this share of tasks twice from then on."""
    clock: Annotated[
        timedelta | None,
        BeforeValidator(_parse_clock_advance),
        WithJsonSchema({"type": "string", "pattern": r"^\+"}),
        Field(examples=["+1h"]),
    ] = None
    """Advance the run's clock."""
    for_: Annotated[PositiveDuration | None, Field(alias="for", examples=["5s"])] = None
    """Duration of the fault; required with `pause` and `partition`, and not allowed otherwise."""
    when: Annotated[Literal["accepted"] | None, Field(examples=["accepted"])] = None
    """With `kill = "pool-child"`: wait until the gateway has accepted messages whose acceptance
    is not recorded yet, and kill the whole pool."""
    data: Annotated[Literal["kept", "lost"], Field(examples=["lost"])] = "kept"
    """With `restart = "broker"`: whether the broker's data survives."""
    connections: Annotated[Literal["stalled", "cut"], Field(examples=["cut"])] = "stalled"
    """With `partition`: whether the connections stall or are closed."""

    @model_validator(mode="after")
    def _validate_single_kind(self) -> Self:
        kinds = self._given_kinds()
        if len(kinds) != 1:
            got = " and ".join(kinds) or "no kind of fault"
            raise ValueError(f"got {got}; expected one of {', '.join(FaultKind)}")
        if self.kind in KINDS_WITH_DURATION and self.for_ is None:
            raise InvalidKey("for", f'missing; expected a duration like "5s" with {self.kind}')
        if self.kind not in KINDS_WITH_DURATION and self.for_ is not None:
            raise InvalidKey("for", f"not allowed with {self.kind}")
        return self

    @model_validator(mode="after")
    def _validate_details(self) -> Self:
        if self.when is not None and self.kill != "pool-child":
            raise InvalidKey("when", 'only allowed with kill = "pool-child"')
        if self.data != "kept" and self.restart != "broker":
            raise InvalidKey("data", 'only allowed with restart = "broker"')
        if self.connections != "stalled" and self.partition is None:
            raise InvalidKey("connections", 'only allowed with partition = "workers"')
        return self

    def _given_kinds(self) -> list[FaultKind]:
        return [kind for kind in FaultKind if kind in self.model_fields_set]

    @property
    def kind(self) -> FaultKind:
        """The kind of the fault."""
        return self._given_kinds()[0]

    @property
    def duration(self) -> timedelta:
        """Duration of the fault; 0 if it ends at once or not at all."""
        return self.for_ or timedelta()

    @property
    def description(self) -> str:
        """Description of the fault in the past participle, for the log."""
        match self.kind:
            case FaultKind.KILL if self.when is not None:
                return "pool processes killed after the gateway has accepted messages"
            case FaultKind.KILL:
                return f"{self.kill} killed"
            case FaultKind.RESTART:
                lost = ", its data lost" if self.data == "lost" else ""
                return f"{self.restart} restarted{lost}"
            case FaultKind.FLUSH:
                return "broker flushed"
            case FaultKind.PAUSE:
                return f"database paused for {_format_seconds(self.duration)}"
            case FaultKind.PARTITION:
                seconds = _format_seconds(self.duration)
                return f"workers' connections {self.connections} for {seconds}"
            case FaultKind.DUPLICATE_TASKS:
                return f"{self.duplicate_tasks:.0%} of tasks delivered twice from then on"
            case FaultKind.CLOCK:
                return f"run's clock advanced by {_format_seconds(self.clock or timedelta())}"


@dataclass(frozen=True, kw_only=True)
class InjectedFault:
    """A fault that was injected, or that could not be.

    Attributes:
        description: what happened to what.
        at: seconds on the run's clock at which it began.
        until: seconds on the run's clock at which it was over.
        times: tasks or processes that it hit.
        trouble: why it could not be injected, or None.
    """

    description: str
    at: float
    until: float
    times: int = 1
    trouble: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fault as `summary.json` has it."""
        return {
            "told": self.description,
            "at": self.at,
            "until": self.until,
            "times": self.times,
            "trouble": self.trouble,
        }


def _format_seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"
