"""Judge again where earlier answers of services are unknown, as for services of other packages.

A check that reads such an answer gets its recorded verdict, if the record has one and the check
would judge as it did then. Otherwise the message is in doubt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, NoReturn

from tracker.queries.judgements import Judgement
from tracker.queries.next_step import CHECK_STEPS
from tracker.status import Step
from workers.candidates import Candidate, required_services
from workers.checks.base import Check, Defer, shipped_check_names
from workers.plugins import PluginGroup, find_plugins, is_third_party
from workers.rules.as_of import Rules
from workers.services.base import ServiceName


class _UnknownAnswerRead(Exception):
    """A rule read an answer that is unknown; the argument is the service."""


class _UnknownAnswer:
    """A stand-in for a service's answer, which raises `_UnknownAnswerRead` when a rule reads it."""

    def __init__(self, service: ServiceName) -> None:
        self._service = service

    def _refuse(self, *_: object) -> NoReturn:
        raise _UnknownAnswerRead(self._service)

    __getattr__ = __eq__ = __bool__ = __str__ = __len__ = __iter__ = __contains__ = _refuse
    __hash__ = None  # type: ignore[assignment]  # an answer that is compared isn't hashed


@dataclass(frozen=True)
class DoubtfulRules:
    """Rules that don't know the answers of some services.

    Attributes:
        installed: the installed rules, with the recorded campaign.
        judgements: how the messages were judged, by number.
        doubts: the messages whose verdict needs an unknown answer, with the service.
    """

    rules: Rules
    installed: Rules
    judgements: Mapping[int, Judgement]
    doubts: dict[int, ServiceName] = field(default_factory=dict)

    def make_rules(self) -> Rules:
        """Return rules that judge by the record where an answer is unknown."""
        return replace(self.rules, checks=[self._doubting(check) for check in self.rules.checks])

    def _doubting(self, check: Check) -> Check:
        is_comparable = self._is_comparable(check)

        @wraps(check.rule)
        def call(candidate: Candidate, *arguments: Any) -> bool | Defer:
            try:
                return check.rule(_hide_answers(candidate, check.step), *arguments)
            except _UnknownAnswerRead as unknown:
                judgement = self.judgements[candidate.number]
                recorded = self._find_recorded_verdict(check, judgement) if is_comparable else None
                if recorded is None:
                    [self.doubts[candidate.number]] = unknown.args
                return recorded is not False

        return replace(check, rule=call)

    def _is_comparable(self, check: Check) -> bool:
        """Return whether a check would judge as it did then if the service answered the same."""
        if check not in self.installed.checks:
            return False
        is_of_shipped_setting = check.step is Step.SUPPRESS and check.name in shipped_check_names()
        return is_of_shipped_setting or self.rules.campaign == self.installed.campaign

    def _find_recorded_verdict(self, check: Check, judgement: Judgement) -> bool | None:
        """Return whether a check blocked a message; None if it didn't run, or that is unknown."""
        if judgement.reason is None:
            return False
        blocking = judgement.check_name or judgement.reason.slug
        if judgement.step not in CHECK_STEPS:
            return None if check.name == blocking else False
        names = [installed.name for installed in self.installed.checks]
        if blocking not in names or names.index(check.name) > names.index(blocking):
            return None
        return check.name == blocking


def _hide_answers(candidate: Candidate, step: Step) -> Candidate:
    """Return a candidate with unknown answers instead of those of services."""
    unknown: dict[str, Any] = {
        service: _UnknownAnswer(service) for service in required_services(step, candidate.campaign)
    }
    if unknown:
        unknown["failed"] = next(iter(unknown.values()))
    return candidate._replace(**unknown)


def are_answers_known(kind: str) -> bool:
    """Return whether services of a kind answer as they did then: those of sendtrace do."""
    return not any(map(is_third_party, find_plugins(PluginGroup.SERVICES).select(name=kind)))
