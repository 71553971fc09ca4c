"""The table of a scenario file that says when a campaign's messages arrive."""

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from simulator.scenario import arrivals
from simulator.scenario.arrivals import ArrivalShape
from simulator.scenario.errors import shown
from simulator.scenario.values import (
    Duration,
    PositiveDuration,
    PositiveRate,
    Rate,
    ScenarioSection,
)


class RampSection(ScenarioSection):
    start: Rate = Field(alias="from")
    end: PositiveRate = Field(alias="to")
    over: PositiveDuration

    @property
    def shape(self) -> ArrivalShape:
        return arrivals.ramp(self.start, self.end, self.over.total_seconds())


class StepSection(ScenarioSection):
    rate: Rate
    for_: PositiveDuration = Field(alias="for")


class SpikeSection(ScenarioSection):
    base: PositiveRate
    peak: PositiveRate
    at: Duration
    for_: PositiveDuration = Field(alias="for")

    @property
    def shape(self) -> ArrivalShape:
        return arrivals.spike(
            self.base, self.peak, self.at.total_seconds(), self.for_.total_seconds()
        )


BLAST = "blast"


class ShapeSection(ScenarioSection):
    """One of the shapes in which messages arrive, or none for a blast."""

    constant: PositiveRate | None = None
    ramp: RampSection | None = None
    steps: tuple[StepSection, ...] | None = None
    spike: SpikeSection | None = None

    @field_validator("steps")
    @classmethod
    def _validate_steps(
        cls, steps: tuple[StepSection, ...] | None
    ) -> tuple[StepSection, ...] | None:
        if steps is not None and not steps:
            raise ValueError("is empty; expected at least one { rate, for }")
        if steps is not None and not steps[-1].rate:
            raise ValueError("the last rate holds on until all have arrived; expected one above 0")
        return steps

    @property
    def shape(self) -> ArrivalShape:
        if self.constant is not None:
            return arrivals.constant(self.constant)
        if self.steps is not None:
            return arrivals.steps([(each.rate, each.for_.total_seconds()) for each in self.steps])
        told = self.ramp or self.spike
        return told.shape if told else arrivals.BLAST


SHAPE_SYNTAX = (
    '"blast", { constant = RATE }, { ramp = { from, to, over } }, { steps = [{ rate, for }] }'
    " or { spike = { base, peak, at, for } }"
)


def _parse_shape(value: object) -> object:
    if value == BLAST:
        return ShapeSection()
    if isinstance(value, dict) and len(value) == 1:
        return value
    if isinstance(value, dict) and value.keys() <= ShapeSection.model_fields.keys() and value:
        raise ValueError(f"{' and '.join(value)} at once; expected one shape")
    raise ValueError(f"{shown(value)} is no shape; expected {SHAPE_SYNTAX}")


class LoadSection(ScenarioSection):
    """When a campaign begins, from the beginning of the run on, and in what shape its messages
    arrive; in simulated time."""

    start: Duration = timedelta()
    shape: Annotated[ShapeSection, BeforeValidator(_parse_shape)] = ShapeSection()

    @model_validator(mode="before")
    @classmethod
    def _validate_shape_nesting(cls, value: object) -> object:
        if isinstance(value, dict):
            for name in value.keys() & ShapeSection.model_fields.keys():
                raise ValueError(f"{name}: expected it in shape = {{ {name} = … }}")
        return value
