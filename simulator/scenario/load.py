"""The table of a campaign's load: when its messages arrive."""

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from simulator.scenario import arrivals
from simulator.scenario.arrivals import ArrivalShape
from simulator.values import (
    Duration,
    InvalidKey,
    PositiveDuration,
    PositiveRate,
    Rate,
    ScenarioSection,
    format_value,
)

BLAST_KEYWORD = "blast"

SHAPE_SYNTAX = (
    '"blast", { constant = RATE }, { ramp = { from, to, over } }, { steps = [{ rate, for }] }'
    " or { spike = { base, peak, at, for } }"
)


class RampSection(ScenarioSection):
    """A rate that changes linearly, then stays at its last value."""

    start: Annotated[Rate, Field(alias="from", examples=[100])]
    """Rate at the start."""
    end: Annotated[PositiveRate, Field(alias="to", examples=[5_000])]
    """Rate at the end, and from then on."""
    over: Annotated[PositiveDuration, Field(examples=["60s"])]
    """Duration of the change."""


class StepSection(ScenarioSection):
    """A constant rate for some time."""

    rate: Annotated[Rate, Field(examples=[500])]
    """Rate of the step; the last step's is above 0 and stays until all messages have arrived."""
    for_: Annotated[PositiveDuration, Field(alias="for", examples=["30s"])]
    """Duration of the step."""


class SpikeSection(ScenarioSection):
    """A constant rate with one peak."""

    base: Annotated[PositiveRate, Field(examples=[200])]
    """Rate before and after the peak."""
    peak: Annotated[PositiveRate, Field(examples=[8_000])]
    """Rate during the peak."""
    at: Annotated[Duration, Field(examples=["30s"])]
    """Start of the peak, after the start of the campaign."""
    for_: Annotated[PositiveDuration, Field(alias="for", examples=["5s"])]
    """Duration of the peak."""


class ShapeSection(ScenarioSection):
    """The shape in which messages arrive: exactly one key. Rates are messages per second."""

    constant: Annotated[PositiveRate | None, Field(examples=[2_000])] = None
    """A constant rate."""
    ramp: Annotated[
        RampSection | None, Field(examples=[{"from": 100, "to": 5_000, "over": "60s"}])
    ] = None
    """A rate that changes linearly."""
    steps: Annotated[
        tuple[StepSection, ...] | None,
        Field(examples=[[{"rate": 500, "for": "30s"}, {"rate": 1_000, "for": "30s"}]]),
    ] = None
    """Rates one after the other."""
    spike: Annotated[
        SpikeSection | None,
        Field(examples=[{"base": 200, "peak": 8_000, "at": "30s", "for": "5s"}]),
    ] = None
    """A constant rate with one peak."""

    @field_validator("steps")
    @classmethod
    def _validate_steps(
        cls, steps: tuple[StepSection, ...] | None
    ) -> tuple[StepSection, ...] | None:
        if steps is not None and not steps:
            raise ValueError("got an empty array; expected at least one { rate, for }")
        if steps is not None and not steps[-1].rate:
            raise ValueError(
                "got 0 as the last rate; expected more, because it stays until all messages have"
                " arrived"
            )
        return steps

    @property
    def arrival_shape(self) -> ArrivalShape:
        """The arrivals of this shape."""
        if self.constant is not None:
            return arrivals.constant_shape(self.constant)
        if self.ramp is not None:
            return arrivals.ramp_shape(
                self.ramp.start, self.ramp.end, self.ramp.over.total_seconds()
            )
        if self.steps is not None:
            return arrivals.steps_shape(
                [(step.rate, step.for_.total_seconds()) for step in self.steps]
            )
        if self.spike is not None:
            return arrivals.spike_shape(
                self.spike.base,
                self.spike.peak,
                self.spike.at.total_seconds(),
                self.spike.for_.total_seconds(),
            )
        return arrivals.BLAST_SHAPE


def _parse_shape(value: object) -> object:
    if value == BLAST_KEYWORD:
        return ShapeSection()
    if isinstance(value, ShapeSection) or (isinstance(value, dict) and len(value) == 1):
        return value
    if isinstance(value, dict) and value.keys() <= ShapeSection.model_fields.keys() and value:
        raise ValueError(f"got {' and '.join(value)}; expected one shape")
    raise ValueError(f"got {format_value(value)}; expected {SHAPE_SYNTAX}")


class LoadSection(ScenarioSection):
    """Arrival times of a campaign's messages.

    The load is open: messages arrive on the clock, whatever the system does with them.
    """

    start: Annotated[Duration, Field(examples=["10s"])] = timedelta()
    """Start of the campaign, after the start of the run."""
    shape: Annotated[
        ShapeSection, BeforeValidator(_parse_shape), Field(examples=["blast", {"constant": 2_000}])
    ] = ShapeSection()
    """Shape in which the messages arrive; default: `"blast"`, all at once."""

    @model_validator(mode="before")
    @classmethod
    def _validate_shape_nesting(cls, value: object) -> object:
        if isinstance(value, dict):
            for name in value.keys() & ShapeSection.model_fields.keys():
                raise InvalidKey(name, f"got a shape; expected it in shape = {{ {name} = … }}")
        return value
