"""Load a scenario file: parse it, check it, and plan its campaigns."""

import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simulator.audience.formats import AudienceFile
from simulator.audience.problems import ProblemCounts
from simulator.audience.reader import read_customers
from simulator.figures import CLOCK_GROUPS, LATENCIES, is_known_early
from simulator.scenario.expectations import Expectation, parse_expectations
from simulator.scenario.expected_file import read_expected_outcomes
from simulator.scenario.faults import FaultKind, FaultSection
from simulator.scenario.plan import PlannedCampaign, plan_campaigns
from simulator.scenario.sections import ClockSection
from simulator.scenario.tables import ScenarioFile
from simulator.scenario.thresholds import Threshold, parse_thresholds
from simulator.validation_errors import format_validation_errors
from tracker.errors import UsageError
from tracker.text import suggest_similar
from workers.gateways.base import load_gateway_kind
from workers.message.source import MessageSource
from workers.plugins import PluginGroup, find_plugins, is_third_party


class InvalidScenario(UsageError):
    """A scenario file can't be read, or describes something that can't be run."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A scenario that can be run."""

    path: Path
    text: str
    name: str
    seed: int
    clock: ClockSection
    campaigns: tuple[PlannedCampaign, ...]
    faults: tuple[FaultSection, ...]
    thresholds: tuple[Threshold, ...]
    expectations: tuple[Expectation, ...]
    rules: Mapping[str, Mapping[str, Any]]
    defer_at_most: timedelta

    @property
    def network_gateways(self) -> list[tuple[str, str]]:
        """Kinds and settings of the gateways in use that reach real people, sorted."""
        gateways = [campaign.gateway for campaign in self.campaigns]
        return sorted(
            {
                (gateway.kind, gateway.real_settings)
                for gateway in gateways
                if load_gateway_kind(gateway.kind).reaches_people
            }
        )

    @property
    def distorted_groups(self) -> dict[str, str]:
        """Groups of figures that the run's clock distorts, each with the cause."""
        if any(fault.kind is FaultKind.CLOCK for fault in self.faults):
            return dict.fromkeys(CLOCK_GROUPS, "a fault advances the run's clock")
        if self.clock.speed != 1:
            speed = f"the clock runs at {self.clock.speed:g} times real time"
            return {LATENCIES: f"{speed}, but workers and databases don't"}
        return {}

    @property
    def generated_customer_count(self) -> int | None:
        """Customers of all audiences, or None if any of them comes from a file."""
        sizes = {campaign.audience.owner: campaign.audience.source for campaign in self.campaigns}
        counts = [size for size in sizes.values() if isinstance(size, int)]
        return sum(counts) if len(counts) == len(sizes) else None

    @property
    def source_files(self) -> list[Path]:
        """The scenario file and all files that it names."""
        sources = (campaign.audience.source for campaign in self.campaigns)
        files = (source.source_files for source in sources if isinstance(source, AudienceFile))
        templates = (campaign.message_files for campaign in self.campaigns)
        return [
            self.path,
            *chain.from_iterable(files),
            *chain.from_iterable(templates),
            *self.expected_files,
        ]

    @property
    def expected_files(self) -> list[Path]:
        """The files of expected outcomes."""
        files = (campaign.expected_file for campaign in self.campaigns)
        return [file for file in files if file is not None]

    def require_rules(self) -> None:
        """Raise UsageError if a rule with settings or with an expectation isn't installed.

        An expectation needs a rule of another package, since the oracle predicts all others.
        """
        entries = find_plugins(PluginGroup.CHECKS)
        foreign_names = sorted({entry.name for entry in entries if is_third_party(entry)})
        for name in self.rules:
            self._require_rule(f"rules.{name}", name, sorted(entries.names))
        for expectation in self.expectations:
            self._require_rule(f'expect."{expectation.key}"', expectation.rule, foreign_names)

    def _require_rule(self, key: str, name: str, installed: Sequence[str]) -> None:
        if name not in installed:
            raise UsageError(
                f"{self.path}: {key}: no installed package has a rule named"
                f" {name!r}{suggest_similar(name, installed)}; see sendtrace checks list"
            )

    def refuse_to_overwrite(self, option: str, file: Path | None) -> None:
        """Raise UsageError if the output file that an option names is one of the source files."""
        with suppress(OSError):  # A file that can't be examined can't be overwritten either.
            if file is not None and any(file.samefile(source) for source in self.source_files):
                raise UsageError(f"{option} {file}: got an input file; expected another file")


def load_scenario(path: Path, *, seed: int | None = None, audience: Path | None = None) -> Scenario:
    """Load a scenario file, and check the files that it names.

    Args:
        audience: audience file that replaces the customers of all campaigns.

    Raises:
        InvalidScenario: names the file, the key and the expected value, one line an error.
    """
    scenario = parse_scenario(_read_scenario_file(path), path, seed=seed, audience=audience)
    _check_audience_files(scenario)
    _check_expected_files(scenario)
    return scenario


def parse_scenario(
    text: str,
    path: Path,
    *,
    seed: int | None = None,
    audience: Path | None = None,
    messages: Mapping[str, MessageSource] | None = None,
) -> Scenario:
    """Return the scenario that a text describes; only files of templates are read.

    Args:
        path: path of the file, for messages. Audience files are relative to its folder.
        seed: replaces the seed of the file.
        audience: audience file that replaces the customers of all campaigns.
        messages: the messages of the campaigns by name, so that no file is read.

    Raises:
        InvalidScenario: names the file, the key and the expected value, one line an error.
    """
    raw = _parse_toml(text, path)
    if seed is not None:
        raw["seed"] = seed
    try:
        file = ScenarioFile.model_validate(raw)
        if audience is not None:
            file = file.with_audience(audience.absolute())
        return resolve_scenario(file, path=path, text=text, messages=messages)
    except ValidationError as error:
        lines = format_validation_errors(error, ScenarioFile)
        raise InvalidScenario("\n".join(f"{path}: {line}" for line in lines)) from None
    except ValueError as error:
        raise InvalidScenario(f"{path}: {error}") from None


def resolve_scenario(
    file: ScenarioFile,
    *,
    path: Path,
    text: str,
    messages: Mapping[str, MessageSource] | None = None,
) -> Scenario:
    """Return the scenario that the tables of a file describe; `text` is the file's content.

    Raises:
        ValueError: a reference or a threshold is wrong. The message begins with the key.
    """
    names = [campaign.name for campaign in file.campaigns]
    return Scenario(
        path=path,
        text=text,
        name=file.name,
        seed=file.seed,
        clock=file.clock,
        campaigns=plan_campaigns(file, path.parent, messages),
        faults=file.faults,
        thresholds=parse_thresholds(
            file.thresholds, names, lambda figure: is_known_early(figure, names)
        ),
        expectations=parse_expectations(file.expect, names),
        rules=file.rules,
        defer_at_most=file.defer_at_most,
    )


def _read_scenario_file(path: Path) -> str:
    _require_regular_file(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidScenario(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidScenario(f"{path}: is not UTF-8 text") from None


def _parse_toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise InvalidScenario(f"{path}: is not TOML: arrays are nested too deeply") from None
    except ValueError as error:  # Also raised for integers with too many digits for Python.
        raise InvalidScenario(f"{path}: is not TOML: {error}") from None


def _check_audience_files(scenario: Scenario) -> None:
    """Raise InvalidScenario if an audience file can't be read or has no customers."""
    checked: list[AudienceFile] = []
    for index, campaign in enumerate(scenario.campaigns):
        file = campaign.audience.source
        if isinstance(file, int) or file in checked:
            continue
        checked.append(file)
        try:
            for path in file.source_files:
                _require_regular_file(path)
            _require_rows(file)
        except UsageError as error:
            raise InvalidScenario(
                f"{scenario.path}: campaigns[{index}].audience: {error}"
            ) from None


def _check_expected_files(scenario: Scenario) -> None:
    """Raise InvalidScenario if a file of expected outcomes can't be read."""
    for index, campaign in enumerate(scenario.campaigns):
        if campaign.expected_file is None:
            continue
        try:
            _require_regular_file(campaign.expected_file)
            read_expected_outcomes(campaign.expected_file)
        except UsageError as error:
            raise InvalidScenario(f"{scenario.path}: campaigns[{index}].expect: {error}") from None


def _require_regular_file(path: Path) -> None:
    """Raise InvalidScenario for a pipe, which would block, or a device, which may never end."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InvalidScenario(f"{path}: is not a regular file")


def _require_rows(file: AudienceFile) -> None:
    if next(read_customers(file, ProblemCounts()), None) is None:
        raise UsageError(f"{file.path}: no rows; expected customers below the header")
