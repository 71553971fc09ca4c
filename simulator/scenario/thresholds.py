"""Thresholds: conditions that a scenario sets on the figures of its result."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from simulator.figures import Unit, list_figure_units
from simulator.values import (
    Flag,
    InvalidKey,
    ScenarioSection,
    format_value,
    parse_duration,
    parse_number,
    parse_share,
)
from tracker.text import suggest_similar

RELATIONS: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt}
)

MAX_BYTES = 1e18

LIMIT_FORMATS: Mapping[Unit, str] = MappingProxyType(
    {
        Unit.SECONDS: 'a duration like "800ms" or "2s"',
        Unit.SHARE: 'a share like "0.9" or "90 %"',
        Unit.BYTES: 'a size like "300MB"',
        Unit.RATE: 'messages per second, like "10000"',
    }
)
"""Notation of limits by unit. Limits of other units are plain numbers."""

_THRESHOLD_PATTERN = re.compile(r"\s*(<=|>=|==|<|>)\s*([^<>=\s].*?)\s*")
_BYTE_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "B": 1.0}


class ThresholdSection(ScenarioSection):
    """A threshold in its long form."""

    is_: Annotated[str, Field(alias="is", strict=True, examples=["< 2s"])]
    """Condition: one of <= >= == < > and a limit in the figure's unit."""
    abort: Annotated[Flag | None, Field(examples=[True])] = False
    """Whether the run ends as soon as the threshold can no longer be met. `abort = true` beside the
    thresholds is the default for all that can be evaluated before the end."""


def expand_thresholds(value: object) -> object:
    """Return the table of thresholds with each in its long form.

    The key `abort` beside the thresholds becomes None in those without a value of their own.

    Raises:
        InvalidKey: a threshold isn't a string or a table.
    """
    if not isinstance(value, dict):
        return value
    sections = dict(value)
    abort = sections.pop("abort", False)
    if not isinstance(abort, bool):
        raise InvalidKey("abort", f"got {format_value(abort)}; expected true or false")
    return {
        figure: _expand_threshold(figure, section, abort) for figure, section in sections.items()
    }


def _expand_threshold(figure: str, section: object, abort: bool) -> object:
    if isinstance(section, str):
        section = {"is": section}
    if not isinstance(section, dict):
        got = format_value(section)
        raise InvalidKey(f'"{figure}"', f'got {got}; expected a string like ">= 1"')
    if section and not {"is", "abort"} & section.keys():
        raise InvalidKey(
            f'"{figure}"',
            "got a table; expected the whole name of a figure in quotes, like"
            f' "{figure}.{next(iter(section))}"',
        )
    return {"abort": None if abort else False, **section}


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A condition on a figure.

    Attributes:
        relation: a key of `RELATIONS`.
        limit: limit in the figure's unit.
        expression: the condition as the scenario says it.
        should_abort: whether the run ends as soon as the threshold can no longer be met.
    """

    figure: str
    unit: Unit
    relation: str
    limit: float
    expression: str
    should_abort: bool

    def is_met_by(self, value: float | None) -> bool:
        """Return whether a value meets the threshold. A missing value doesn't."""
        return value is not None and RELATIONS[self.relation](value, self.limit)

    def can_be_met_within(self, lowest: float, highest: float) -> bool:
        """Return whether any value in a range meets the threshold."""
        match self.relation:
            case "<" | "<=":
                return self.is_met_by(lowest)
            case ">" | ">=":
                return self.is_met_by(highest)
            case _:
                return lowest <= self.limit <= highest


def parse_thresholds(
    sections: Mapping[str, ThresholdSection],
    campaigns: Sequence[str],
    can_abort: Callable[[str], bool],
) -> tuple[Threshold, ...]:
    """Return the thresholds of a run.

    Args:
        sections: tables by the names of their figures.
        can_abort: whether a figure can be evaluated before the end of the run.

    Raises:
        ValueError: a figure is unknown, a condition can't be parsed, or `abort` isn't possible.
    """
    units = list_figure_units(campaigns)
    thresholds = []
    for figure, section in sections.items():
        key = f'thresholds."{figure}"'
        unit = units.get(figure)
        if unit is None:
            raise ValueError(f"{key}: unknown figure{suggest_similar(figure, list(units))}")
        if section.abort and not can_abort(figure):
            raise ValueError(
                f"{key}: got abort = true; expected false, because the figure is unknown before the"
                " end of the run"
            )
        try:
            relation, limit = parse_expression(section.is_, unit)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
        thresholds.append(
            Threshold(
                figure=figure,
                unit=unit,
                relation=relation,
                limit=limit,
                expression=" ".join(section.is_.split()),
                should_abort=can_abort(figure) if section.abort is None else section.abort,
            )
        )
    return tuple(thresholds)


def parse_expression(expression: str, unit: Unit) -> tuple[str, float]:
    """Return the relation and the limit of a condition, or raise ValueError."""
    match = _THRESHOLD_PATTERN.fullmatch(expression)
    if match is None:
        relations = " ".join(RELATIONS)
        raise ValueError(
            f'got {format_value(expression)}; expected one of {relations} and a limit, like "< 2s"'
        )
    relation, limit = match.groups()
    value = _parse_limit(limit, unit)
    if value is None:
        expected = LIMIT_FORMATS.get(unit, 'a number like "100"')
        raise ValueError(f"got limit {format_value(limit)}; expected {expected}")
    return relation, value


def _parse_limit(text: str, unit: Unit) -> float | None:
    match unit:
        case Unit.SECONDS:
            try:
                return parse_duration(text).total_seconds()
            except ValueError:
                return None
        case Unit.SHARE:
            return parse_share(text)
        case Unit.RATE:
            return parse_number(text.removesuffix("/s").rstrip())
        case Unit.BYTES:
            for suffix, factor in _BYTE_UNITS.items():
                if text.endswith(suffix):
                    size = parse_number(text.removesuffix(suffix).rstrip())
                    return None if size is None or size > MAX_BYTES else size * factor
            return None
        case _:
            return parse_number(text)
