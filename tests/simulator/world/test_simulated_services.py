"""The simulated services: failures and outages that follow from the seed and the clock."""

import pytest

from simulator.world.behaviour import ServiceFailures
from simulator.world.services import SimulatedServices, SimulatedServicesSettings, draw_unanswered
from tests.support.factory import Plan, make_batch
from tracker.clock import from_seconds
from tracker.store.database import Database
from workers.services.base import Service, ServiceName, ServiceUnavailable

COUPON, SUBSCRIPTION = ServiceName.COUPON, ServiceName.SUBSCRIPTION


def find_simulated_service(database: Database, name: ServiceName, **failures: object) -> Service:
    settings = SimulatedServicesSettings(
        seed=42,
        audience="spring",
        defects={"coupon_issue": 0.2, "coupon_expired": 0.3},
        failures={name: ServiceFailures.model_validate(failures)},
    )
    return SimulatedServices(settings.model_dump_json(), database).find(name)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_a_simulated_service_fails_for_the_customers_that_the_draws_name(
    database: Database, rate: float
) -> None:
    size = 200
    people: dict[int, dict[str, object]] = {3: {"coupon_id": "C3"}}
    campaign = make_batch(database, Plan(size=size), people).campaign
    service = find_simulated_service(database, COUPON, error_rate=rate)
    settings = SimulatedServicesSettings(
        seed=42,
        audience="spring",
        defects={"coupon_issue": 0.2, "coupon_expired": 0.3},
        failures={COUPON: ServiceFailures(error_rate=rate)},
    )
    defective = draw_unanswered(
        settings.model_copy(update={"failures": {}}), "spring", COUPON, 0, 0, size
    )
    for attempt in range(2):
        expected = draw_unanswered(settings, "spring", COUPON, attempt, 0, size)
        answers = service(campaign, range(size), attempt, campaign.started_at)
        assert {*answers.failed} == {*expected.nonzero()[0].tolist()}
        answered = answers.complete(range(size), is_last_try=True).by_number
        assert {*answered} == {*range(size)} - {*answers.failed}
        assert expected[defective].all(), "a planted defect fails on every attempt"
        subset = service(campaign, [150, 7, 60], attempt, campaign.started_at)
        assert {*subset.failed} == {7, 60, 150} & {*answers.failed}, (
            "an answer doesn't depend on the other customers"
        )
    assert bool(expected.all()) is (rate == 1.0)
    assert 0.1 < defective.mean() < 0.3
    assert service(campaign, [], 0, campaign.started_at).by_number == {}


@pytest.mark.parametrize(
    ("seconds", "is_unavailable"),
    [(0, False), (0.999, False), (1, True), (3.999, True), (4, False)],
)
def test_a_simulated_outage_is_measured_from_the_start_of_the_run(
    database: Database, seconds: float, is_unavailable: bool
) -> None:
    campaign = make_batch(database, Plan(size=2)).campaign
    outage = {"from": "1s", "to": "4s"}
    service = find_simulated_service(database, SUBSCRIPTION, outage=outage)
    now = campaign.started_at + from_seconds(seconds)
    if is_unavailable:
        with pytest.raises(ServiceUnavailable, match="subscription service"):
            service(campaign, [0, 1], 0, now)
    else:
        answers = service(campaign, [0, 1], 0, now)
        assert ({*answers.by_number}, {*answers.failed}) == (set(), set())
