"""The table of a scenario file that says when a campaign's messages arrive."""

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from simulator.scenario import arrivals
from simulator.scenario.arrivals import Shape
from simulator.scenario.errors import shown
from simulator.scenario.values import Duration, DurationAboveZero, Rate, RateAboveZero, Section


class Ramp(Section):
    start: Rate = Field(alias="from")
    end: RateAboveZero = Field(alias="to")
    over: DurationAboveZero

    @property
    def shape(self) -> Shape:
        return arrivals.ramp(self.start, self.end, self.over.total_seconds())


class Level(Section):
    rate: Rate
    for_: DurationAboveZero = Field(alias="for")


class Spike(Section):
    base: RateAboveZero
    peak: RateAboveZero
    at: Duration
    for_: DurationAboveZero = Field(alias="for")

    @property
    def shape(self) -> Shape:
        return arrivals.spike(
            self.base, self.peak, self.at.total_seconds(), self.for_.total_seconds()
        )


BLAST = "blast"


class LoadShape(Section):
    """One of the shapes in which messages arrive, or none for a blast."""

    constant: RateAboveZero | None = None
    ramp: Ramp | None = None
    steps: tuple[Level, ...] | None = None
    spike: Spike | None = None

    @field_validator("steps")
    @classmethod
    def _come_to_an_end(cls, steps: tuple[Level, ...] | None) -> tuple[Level, ...] | None:
        if steps is not None and not steps:
            raise ValueError("is empty; expected at least one { rate, for }")
        if steps is not None and not steps[-1].rate:
            raise ValueError("the last rate holds on until all have arrived; expected one above 0")
        return steps

    @property
    def shape(self) -> Shape:
        if self.constant is not None:
            return arrivals.constant(self.constant)
        if self.steps is not None:
            return arrivals.steps([(each.rate, each.for_.total_seconds()) for each in self.steps])
        told = self.ramp or self.spike
        return told.shape if told else arrivals.BLAST


SHAPES = (
    '"blast", { constant = RATE }, { ramp = { from, to, over } }, { steps = [{ rate, for }] }'
    " or { spike = { base, peak, at, for } }"
)


def _load_shape(value: object) -> object:
    if value == BLAST:
        return LoadShape()
    if isinstance(value, dict) and len(value) == 1:
        return value
    if isinstance(value, dict) and value.keys() <= LoadShape.model_fields.keys() and value:
        raise ValueError(f"{' and '.join(value)} at once; expected one shape")
    raise ValueError(f"{shown(value)} is no shape; expected {SHAPES}")


class Load(Section):
    """When a campaign begins, from the beginning of the run on, and in what shape its messages
    arrive; in simulated time."""

    start: Duration = timedelta()
    shape: Annotated[LoadShape, BeforeValidator(_load_shape)] = LoadShape()

    @model_validator(mode="before")
    @classmethod
    def _shapes_are_in_shape(cls, value: object) -> object:
        if isinstance(value, dict):
            for name in value.keys() & LoadShape.model_fields.keys():
                raise ValueError(f"{name}: expected it in shape = {{ {name} = … }}")
        return value
