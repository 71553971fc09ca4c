"""Services that fail as a scenario wants it, before the workers' own that answer."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from simulator.draws import DrawPurpose, draw_uniforms
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
"""Their name among the entry points."""

REASON_BY_SERVICE = {service: reason for reason, service in SERVICE_BY_REASON.items()}


class ServiceFailures(BaseModel):
    """How a service fails: ``outage`` is a time from the beginning of the run on."""

    model_config = ConfigDict(frozen=True)

    error_rate: float = 0.0
    outage: tuple[timedelta, timedelta] | None = None


class SimulatedServicesSettings(BaseModel):
    """What is recorded of simulated services. ``audience`` is the campaign for which the customers
    were made, and ``defects`` what was planted in them."""

    model_config = ConfigDict(frozen=True)

    seed: int
    audience: str
    defects: Mapping[str, float] = {}
    failures: Mapping[ServiceName, ServiceFailures] = {}


def draw_unanswered(
    settings: SimulatedServicesSettings,
    campaign: str,
    name: ServiceName,
    attempt: int,
    first: int,
    count: int,
) -> NDArray[np.bool_]:
    """For which of the customers ``first`` … a service has no answer, the ``attempt``-th time.

    A pure function of the seed, which both the services, in a worker, and the oracle ask.
    """
    labels = draw_defects(settings.seed, settings.audience, settings.defects, first, count)
    without: NDArray[np.bool_] = labels == REASON_BY_SERVICE[name]
    rate = settings.failures.get(name, ServiceFailures()).error_rate
    if rate:
        drawn = draw_uniforms(settings.seed, campaign, DrawPurpose(name), first, count, attempt)[
            :, 0
        ]
        without |= drawn < rate
    return without


class SimulatedServices:
    """The services of the workers, behind failures that follow from the seed and the clock."""

    def __init__(self, settings: str, database: Database) -> None:
        self._settings = SimulatedServicesSettings.model_validate_json(settings)
        self._real = SqlServices("", database)

    def find(self, name: ServiceName) -> Service:
        answer = self._real.find(name)
        settings = self._settings
        outage = settings.failures.get(name, ServiceFailures()).outage

        def fail_or_answer(
            campaign: Campaign, numbers: Sequence[int], attempt: int, now: Instant
        ) -> ServiceAnswers:
            since_start = to_timedelta(now - campaign.started_at)
            if outage is not None and outage[0] <= since_start < outage[1]:
                raise ServiceUnavailable(f"the {name} service is away")
            if not numbers:
                return ServiceAnswers({})
            first = min(numbers)
            without = draw_unanswered(
                settings, campaign.name, name, attempt, first, max(numbers) - first + 1
            )
            if not without.any():
                return answer(campaign, numbers, attempt, now)
            failed = {number for number in numbers if without[number - first]}
            rest = [number for number in numbers if number not in failed]
            said = answer(campaign, rest, attempt, now)
            return ServiceAnswers(said.by_number, failed.union(said.failed))

        return fail_or_answer
