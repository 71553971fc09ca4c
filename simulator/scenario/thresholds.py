"""Thresholds: what a scenario demands of the figures of its result."""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from simulator.figures import Figures, Unit, list_figure_units
from simulator.scenario.errors import shown
from simulator.scenario.values import ScenarioSection, parse_duration
from tracker.text import suggest_similar

RELATIONS: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {"<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt}
)

_THRESHOLD_PATTERN = re.compile(r"\s*(<=|>=|==|<|>)\s*([^<>=\s].*?)\s*")
_NUMBER_PATTERN = re.compile(r"\d+(?:_\d+)*(?:\.\d+)?(?:e[+-]?\d+)?", re.ASCII)
MAX_BYTES = 1e18
_BYTE_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "B": 1.0}

LIMIT_FORMATS = {
    Unit.SECONDS: 'a duration like "800ms" or "2s"',
    Unit.SHARE: 'a share like "0.9" or "90 %"',
    Unit.BYTES: 'a size like "300MB"',
    Unit.RATE: 'messages a second, like "10000"',
}
"""What a limit of a unit looks like; of all others it is a plain number."""


class ThresholdSection(ScenarioSection):
    """A threshold in its long form. With ``abort`` the run ends once it can't be met any more; None
    is where that is known, if all are to."""

    is_: Annotated[str, Field(alias="is", strict=True)]
    abort: Annotated[bool, Field(strict=True)] | None = False


def expand_thresholds(value: object) -> object:
    """The table of thresholds, each in its long form. ``abort = true`` beside them is for all that
    anything is known of before the end."""
    if not isinstance(value, dict):
        return value
    told = dict(value)
    abort = told.pop("abort", False)
    if not isinstance(abort, bool):
        raise ValueError(f"abort: {shown(abort)} is neither true nor false")
    return {figure: _expand_threshold(figure, each, abort) for figure, each in told.items()}


def _expand_threshold(figure: str, told: object, abort: bool) -> object:
    usual = {"abort": None if abort else False}
    if isinstance(told, str):
        return {**usual, "is": told}
    if not isinstance(told, dict):
        raise ValueError(f'"{figure}": {shown(told)} is no threshold; expected a text like ">= 1"')
    if told and not {"is", "abort"} & told.keys():
        raise ValueError(
            f'"{figure}" is a table; expected the whole name of a figure in quotes,'
            f' like "{figure}.{next(iter(told))}"'
        )
    return {**usual, **told}


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A figure, and what it must be: ``limit`` in its unit, ``told`` as the scenario says it."""

    figure: str
    unit: Unit
    relation: str
    limit: float
    told: str
    abort: bool

    def is_met_by(self, value: float | None) -> bool:
        """Whether a value is as demanded. Where there is no value, nothing is known to be well."""
        return value is not None and RELATIONS[self.relation](value, self.limit)

    def can_be_met_within(self, least: float, most: float) -> bool:
        """Whether any value from ``least`` to ``most`` is as demanded."""
        match self.relation:
            case "<" | "<=":
                return self.is_met_by(least)
            case ">" | ">=":
                return self.is_met_by(most)
            case _:
                return least <= self.limit <= most


@dataclass(frozen=True)
class ThresholdResult:
    """A threshold, held against the figure that came out; it may have been ``has_aborted_run`` before."""

    threshold: Threshold
    value: float | None
    has_aborted_run: bool = False

    @property
    def passed(self) -> bool:
        return not self.has_aborted_run and self.threshold.is_met_by(self.value)

    def as_json(self) -> dict[str, Any]:
        return {
            "figure": self.threshold.figure,
            "threshold": self.threshold.told,
            "value": self.value,
            "unit": self.threshold.unit.value,
            "passed": self.passed,
        }


def evaluate_thresholds(
    thresholds: Sequence[Threshold], figures: Figures, aborted: Threshold | None = None
) -> tuple[ThresholdResult, ...]:
    """Hold each threshold against its figure. One for which the run was ``aborted`` is not met,
    whatever the figure of what was done until then."""
    return tuple(
        ThresholdResult(each, figures[each.figure], each == aborted) for each in thresholds
    )


def parse_thresholds(
    demands: Mapping[str, ThresholdSection],
    campaigns: Sequence[str],
    can_abort: Callable[[str], bool],
) -> tuple[Threshold, ...]:
    """The thresholds on a run of these campaigns.

    Raises :exc:`ValueError`, with the figure, for what is not known or can't be read, and for an
    ``abort`` on a figure that can't be told before the end.
    """
    known = list_figure_units(campaigns)
    found = []
    for figure, demand in demands.items():
        where = f'thresholds."{figure}"'
        unit = known.get(figure)
        if unit is None:
            raise ValueError(
                f"{where}: there is no such figure{suggest_similar(figure, list(known))}"
            )
        if demand.abort and not can_abort(figure):
            raise ValueError(
                f"{where}: is not known before the end of a run; expected no abort = true"
            )
        try:
            relation, limit = _parse_expression(demand.is_, unit)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        found.append(
            Threshold(
                figure=figure,
                unit=unit,
                relation=relation,
                limit=limit,
                told=" ".join(demand.is_.split()),
                abort=can_abort(figure) if demand.abort is None else demand.abort,
            )
        )
    return tuple(found)


def _parse_expression(told: str, unit: Unit) -> tuple[str, float]:
    match = _THRESHOLD_PATTERN.fullmatch(told)
    if match is None:
        raise ValueError(
            f"{shown(told)} is no threshold; expected one of {' '.join(RELATIONS)} and a limit,"
            ' like "< 2s"'
        )
    relation, limit = match.groups()
    value = _parse_limit(limit, unit)
    if value is None:
        expected = LIMIT_FORMATS.get(unit, 'a number like "100"')
        raise ValueError(f"{shown(limit)} is no limit for {unit.value}; expected {expected}")
    return relation, value


def _parse_limit(text: str, unit: Unit) -> float | None:
    match unit:
        case Unit.SECONDS:
            try:
                return parse_duration(text).total_seconds()
            except ValueError:
                return None
        case Unit.SHARE:
            percent = text.endswith("%")
            share = _parse_number(text.removesuffix("%").rstrip())
            if share is not None and percent:
                share /= 100
            return share if share is not None and share <= 1 else None
        case Unit.RATE:
            return _parse_number(text.removesuffix("/s").rstrip())
        case Unit.BYTES:
            for ending, factor in _BYTE_UNITS.items():
                if text.endswith(ending):
                    size = _parse_number(text.removesuffix(ending).rstrip())
                    return None if size is None or size > MAX_BYTES else size * factor
            return None
        case _:
            return _parse_number(text)


def _parse_number(text: str) -> float | None:
    number = float(text.replace("_", "")) if _NUMBER_PATTERN.fullmatch(text) else inf
    return number if isfinite(number) else None
