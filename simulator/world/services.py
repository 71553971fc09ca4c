"""Simulated services: those of the workers, behind failures that follow from seed and clock."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from simulator.draws import DrawPurpose, draw_uniforms
from simulator.values import ScenarioSection
from simulator.world.behaviour import ServiceFailures
from simulator.world.defects import SERVICE_BY_REASON, draw_defects
from tracker.clock import Instant, to_timedelta
from tracker.record.catalog import Campaign
from tracker.store.database import Database
from workers.services.base import (
    Service,
    ServiceAnswers,
    ServiceName,
    ServiceUnavailable,
    SqlServices,
)

SIMULATED_SERVICES_KIND = "simulated"

NO_FAILURES = ServiceFailures()

_PURPOSE_BY_SERVICE = {
    ServiceName.SUBSCRIPTION: DrawPurpose.SUBSCRIPTION,
    ServiceName.COUPON: DrawPurpose.COUPON,
    ServiceName.REFERRAL: DrawPurpose.REFERRAL,
    ServiceName.HANDLER: DrawPurpose.HANDLER,
}

REASON_BY_SERVICE = {service: reason for reason, service in SERVICE_BY_REASON.items()}


class SimulatedServicesSettings(ScenarioSection):
    """Settings of simulated services, as the database stores them."""

    seed: int
    """Seed of the scenario."""
    audience: str
    """Campaign that owns the audience; it seeds the draws of defects."""
    defects: Mapping[str, float] = Field(default_factory=dict)
    """Share of the customers with each planted defect."""
    failures: Mapping[ServiceName, ServiceFailures] = Field(default_factory=dict)
    """Failures by service. A service that is missing doesn't fail."""

    @property
    def failing_services(self) -> list[ServiceName]:
        """The services that leave calls without an answer, so that a step calls them again."""
        return [
            service
            for service, reason in REASON_BY_SERVICE.items()
            if self.defects.get(reason.slug) or self.failures.get(service, NO_FAILURES).error_rate
        ]


def draw_unanswered(
    settings: SimulatedServicesSettings,
    campaign: str,
    name: ServiceName,
    attempt: int,
    first: int,
    count: int,
) -> NDArray[np.bool_]:
    """Return for which customers from `first` on a service has no answer, as shape (count,).

    The result depends on the seed and the settings only. The services in a worker and the oracle in
    the driver call it independently. `attempt` counts the calls of one step from 0.
    """
    defects = draw_defects(settings.seed, settings.audience, settings.defects, first, count)
    unanswered: NDArray[np.bool_] = defects == REASON_BY_SERVICE[name]
    error_rate = settings.failures.get(name, NO_FAILURES).error_rate
    if error_rate:
        purpose = _PURPOSE_BY_SERVICE[name]
        uniforms = draw_uniforms(settings.seed, campaign, purpose, first, count, attempt)
        unanswered |= uniforms[:, 0] < error_rate
    return unanswered


class SimulatedServices:
    """The services of the workers, with simulated failures."""

    def __init__(self, settings: str, database: Database) -> None:
        self._settings = SimulatedServicesSettings.model_validate_json(settings)
        self._services = SqlServices("", database)

    def find(self, name: ServiceName) -> Service:
        """Return the service of a name, which fails as the scenario says."""
        answer = self._services.find(name)
        settings = self._settings
        outage = settings.failures.get(name, NO_FAILURES).outage

        def fail_or_answer(
            campaign: Campaign, numbers: Sequence[int], attempt: int, now: Instant
        ) -> ServiceAnswers:
            if outage is not None and outage.contains(to_timedelta(now - campaign.started_at)):
                raise ServiceUnavailable(f"simulated outage of the {name} service")
            if not numbers:
                return ServiceAnswers({})
            first = min(numbers)
            count = max(numbers) - first + 1
            unanswered = draw_unanswered(settings, campaign.name, name, attempt, first, count)
            if not unanswered.any():
                return answer(campaign, numbers, attempt, now)
            failed = {number for number in numbers if unanswered[number - first]}
            others = [number for number in numbers if number not in failed]
            answers = answer(campaign, others, attempt, now)
            return replace(answers, failed=failed.union(answers.failed))

        return fail_or_answer
