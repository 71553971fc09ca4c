"""The part of a scenario file that says what is to go wrong: ``[[faults]]``."""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from simulator.scenario.errors import shown
from simulator.scenario.values import (
    Duration,
    PositiveDuration,
    ScenarioSection,
    Share,
    parse_positive_duration,
)


def _parse_clock_advance(value: object) -> timedelta:
    if not isinstance(value, str) or re.match(r"\+\s*\d", value) is None:
        raise ValueError(f'{shown(value)} puts no clock forward; expected one like "+1h"')
    return parse_positive_duration(value[1:].strip())


class FaultKind(StrEnum):
    """What goes wrong; a key of the file."""

    KILL = "kill"
    RESTART = "restart"
    FLUSH = "flush"
    PAUSE = "pause"
    PARTITION = "partition"
    DUPLICATE_TASKS = "duplicate_tasks"
    CLOCK = "clock"


KINDS_WITH_DURATION = frozenset({FaultKind.PAUSE, FaultKind.PARTITION})
"""What comes to an end by itself."""


class FaultSection(ScenarioSection):
    """Something that goes wrong ``at`` a time of the run: exactly one of the kinds."""

    at: Duration
    kill: Literal["worker", "pool-child"] | None = None
    restart: Literal["broker", "worker"] | None = None
    flush: Literal["broker"] | None = None
    pause: Literal["database"] | None = None
    partition: Literal["workers"] | None = None
    duplicate_tasks: Share | None = None
    clock: Annotated[timedelta | None, BeforeValidator(_parse_clock_advance)] = None
    for_: PositiveDuration | None = Field(None, alias="for")
    when: Literal["accepted"] | None = None
    data: Literal["kept", "lost"] = "kept"
    connections: Literal["stalled", "cut"] = "stalled"

    @model_validator(mode="after")
    def _validate_single_kind(self) -> Self:
        kinds = [kind for kind in FaultKind if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(
                f"says {' and '.join(kinds) or 'nothing that goes wrong'}; expected one of"
                f" {', '.join(FaultKind)}"
            )
        if (self.kind in KINDS_WITH_DURATION) != (self.for_ is not None):
            wanted = 'is missing; expected one like "5s"' if self.for_ is None else "has no meaning"
            raise ValueError(f"for: {wanted} with {self.kind}")
        for key, default, kind, what in (
            ("when", None, FaultKind.KILL, "pool-child"),
            ("data", "kept", FaultKind.RESTART, "broker"),
            ("connections", "stalled", FaultKind.PARTITION, "workers"),
        ):
            if getattr(self, key) != default and getattr(self, kind) != what:
                raise ValueError(f'{key}: has no meaning without {kind} = "{what}"')
        return self

    @property
    def duration(self) -> timedelta:
        """How long it lasts, if that was said."""
        return self.for_ or timedelta()

    @property
    def kind(self) -> FaultKind:
        return next(kind for kind in FaultKind if getattr(self, kind) is not None)

    @property
    def told(self) -> str:
        """What goes wrong, in words."""
        match self.kind:
            case FaultKind.KILL if self.when is not None:
                return "pool processes are killed after the gateway has accepted"
            case FaultKind.KILL:
                return f"a {self.kill} is killed"
            case FaultKind.RESTART:
                lost = ", its data is lost" if self.data == "lost" else ""
                return f"the {self.restart} is restarted{lost}"
            case FaultKind.FLUSH:
                return "the broker forgets everything"
            case FaultKind.PAUSE:
                return f"the database is silent for {_format_seconds(self.duration)}"
            case FaultKind.PARTITION:
                return f"the workers' connections are {self.connections} for {_format_seconds(self.duration)}"
            case FaultKind.DUPLICATE_TASKS:
                return f"{self.duplicate_tasks:.0%} of tasks are delivered twice from now on"
            case FaultKind.CLOCK:
                return f"the run's clock is put forward by {_format_seconds(self.clock or timedelta())}"


@dataclass(frozen=True, kw_only=True)
class InjectedFault:
    """A fault that happened ``at`` so many seconds of the run, and was over at ``until``. It did so
    ``times``, such as on so many tasks; if it could not, ``trouble`` says why."""

    told: str
    at: float
    until: float
    times: int = 1
    trouble: str | None = None


def _format_seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():g} s"
