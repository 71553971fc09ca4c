"""The services that the checks and the hand-over ask: patience, failures, answers."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from simulator.world.services import (
    ServiceFailures,
    SimulatedServices,
    SimulatedServicesSettings,
    draw_unanswered,
)
from tests.support.factory import (
    AUTHOR,
    SPRING,
    Plan,
    ScriptedServices,
    make_batch,
    states,
    stopped,
)
from tracker.clock import from_seconds
from tracker.record.catalog import Campaign
from tracker.record.journal import QUEUED_STATE
from tracker.status import Channel, Reason, Step
from tracker.store.database import Database
from workers.candidates import SUBSCRIBED, Candidate, load_candidates
from workers.checks.base import checks_of
from workers.services import handlers
from workers.services.base import (
    MAX_SERVICE_CALLS,
    Coupon,
    Service,
    ServiceAnswers,
    ServiceName,
    Services,
    ServiceUnavailable,
    SqlServices,
    Subscription,
    call_service,
    load_services_factory,
)
from workers.steps import before_gateway

AWAY = ServiceUnavailable("the coupon service is away")

COUPON, HANDLER = ServiceName.COUPON, ServiceName.HANDLER
REFERRAL, SUBSCRIPTION = ServiceName.REFERRAL, ServiceName.SUBSCRIPTION


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.services.base.RETRY_DELAYS_SECONDS", (0.0, 0.0))


Script = Sequence[Collection[int] | ServiceUnavailable]


@pytest.mark.parametrize(
    ("says", "asked", "found", "failed"),
    [
        pytest.param([], [[1, 2, 3]], {1, 2, 3}, set(), id="at once"),
        pytest.param([[2]], [[1, 2, 3], [2]], {1, 2, 3}, set(), id="one later"),
        pytest.param([[1, 2], [2]], [[1, 2, 3], [1, 2], [2]], {1, 2, 3}, set(), id="in the end"),
        pytest.param([[2], [2], [2]], [[1, 2, 3], [2], [2]], {1, 3}, {2}, id="one never"),
        pytest.param(
            [[1, 2, 3]] * 9, [[1, 2, 3]] * MAX_SERVICE_CALLS, set(), {1, 2, 3}, id="none ever"
        ),
        pytest.param([[9]], [[1, 2, 3]], {1, 2, 3}, set(), id="another"),
    ],
)
@pytest.mark.parametrize("is_last_try", [False, True])
def test_who_has_no_answer_is_asked_for_again(
    says: Script, asked: list[list[int]], found: set[int], failed: set[int], is_last_try: bool
) -> None:
    services = ScriptedServices({COUPON: says}, {COUPON: {each: Coupon("C") for each in (1, 2, 3)}})
    answers = call_service(services, COUPON, SPRING, [1, 2, 3], is_last_try=is_last_try)
    assert services.asked == [(COUPON, attempt, left) for attempt, left in enumerate(asked)]
    assert ({*answers.found}, {*answers.failed}) == (found, failed)


@pytest.mark.parametrize(
    ("says", "failed"),
    [
        pytest.param([AWAY], {1, 2, 3}, id="at once"),
        pytest.param([[2, 3], AWAY], {2, 3}, id="when it was asked again"),
    ],
)
def test_a_service_that_is_away_has_the_step_repeated_but_on_the_last_try(
    says: Script, failed: set[int]
) -> None:
    services = ScriptedServices({COUPON: says})
    with pytest.raises(ServiceUnavailable, match="coupon service is away"):
        call_service(services, COUPON, SPRING, [1, 2, 3], is_last_try=False)
    answers = call_service(services, COUPON, SPRING, [1, 2, 3], is_last_try=True)
    assert {*answers.failed} == failed


REASONS = {
    SUBSCRIPTION: (Step.SUPPRESS, Reason.SUBSCRIPTION_SERVICE),
    COUPON: (Step.VALIDATE, Reason.COUPON_ISSUE),
    REFERRAL: (Step.VALIDATE, Reason.REFERRAL_SERVICE),
}


def judge(
    database: Database, services: Services, step: Step, *, is_last_try: bool = False
) -> object:
    """The reasons that the checks of a step give to four customers, by number."""
    people: dict[int, dict[str, object]] = {
        number: {"coupon_id": "C", "custom": "{}"} for number in range(4)
    }
    batch = make_batch(database, Plan(size=4, requires=("coupon", "referral")), people)
    before = states(database, batch)
    assert set(before.values()) == {QUEUED_STATE}
    try:
        before_gateway.judge_batch(
            database, batch, step, checks_of(step), services, AUTHOR, is_last_try=is_last_try
        )
    except ServiceUnavailable:
        assert states(database, batch) == before, "nothing is decided"
        raise
    return {
        number: state for number, state in states(database, batch).items() if state != QUEUED_STATE
    }


@pytest.mark.parametrize("name", REASONS)
def test_a_step_stops_those_for_whom_a_service_failed(
    database: Database, name: ServiceName
) -> None:
    step, reason = REASONS[name]
    once, never = [[1, 2]], [[1, 2], [1], [1]]
    assert judge(database, ScriptedServices({name: once}), step) == {}
    assert judge(database, ScriptedServices({name: never}), step) == {1: stopped(reason)}


@pytest.mark.parametrize("name", REASONS)
def test_a_step_waits_for_a_service_that_is_away_and_gives_up_at_last(
    database: Database, name: ServiceName
) -> None:
    step, reason = REASONS[name]
    services = ScriptedServices({name: [AWAY]})
    with pytest.raises(ServiceUnavailable):
        judge(database, services, step)
    everybody = dict.fromkeys(range(4), stopped(reason))
    assert judge(database, services, step, is_last_try=True) == everybody


@pytest.mark.parametrize(
    ("step", "requires", "asked"),
    [
        (Step.SUPPRESS, (), [SUBSCRIPTION]),
        (Step.SUPPRESS, ("coupon", "referral"), [SUBSCRIPTION]),
        (Step.VALIDATE, (), []),
        (Step.VALIDATE, ("last_store", "tag:a", "membership"), []),
        (Step.VALIDATE, ("coupon",), [COUPON]),
        (Step.VALIDATE, ("referral", "coupon"), [COUPON, REFERRAL]),
    ],
)
def test_only_services_that_the_step_needs_are_asked(
    database: Database, step: Step, requires: Sequence[str], asked: list[ServiceName]
) -> None:
    campaign = make_batch(database, Plan(size=3, requires=requires)).campaign
    services = ScriptedServices()
    found = load_candidates(database, campaign, range(3), step, services, campaign.clock.now())
    assert [(name, numbers) for name, _, numbers in services.asked] == [
        (name, [0, 1, 2]) for name in asked
    ]
    usual = SUBSCRIBED if step is Step.SUPPRESS else None
    assert [(each.number, each.subscription, each.recent) for each in found] == [
        (number, usual, 0) for number in range(3)
    ]


def test_a_candidate_has_what_was_said_of_its_customer(database: Database) -> None:
    people: dict[int, dict[str, object]] = {
        1: {"unsubscribed_email": True, "hard_bounces_email": 2, "soft_bounces_sms": 5},
        2: {"ndnc": True, "unsubscribed_sms": True, "hard_bounces_sms": 3},
        3: {"coupon_id": "C", "coupon_expires": "soon", "coupon_redeemed": True},
    }
    expected: dict[Channel, list[tuple[Subscription, int, int]]] = {
        Channel.EMAIL: [
            (Subscription(), 0, 0),
            (Subscription(unsubscribed=True), 2, 0),
            (Subscription(ndnc=True), 0, 0),
            (Subscription(), 0, 0),
        ],
        Channel.SMS: [
            (Subscription(), 0, 0),
            (Subscription(), 0, 5),
            (Subscription(unsubscribed=True, ndnc=True), 3, 0),
            (Subscription(), 0, 0),
        ],
    }
    services = SqlServices("", database)
    for channel in Channel:
        plan = Plan(size=4, channel=channel, requires=("coupon", "referral"))
        campaign = make_batch(database, plan, people).campaign
        look = partial(load_candidates, database, campaign, range(4))
        found: list[Candidate] = look(Step.SUPPRESS, services, campaign.clock.now())
        assert [
            (each.subscription, each.customer.hard_bounces, each.customer.soft_bounces)
            for each in found
        ] == expected[channel]
        found = look(Step.VALIDATE, services, campaign.clock.now())
        assert [each.coupon for each in found] == [Coupon()] * 3 + [Coupon("C", "soon", True)]
        assert [each.referral for each in found] == [f"R-c{number}" for number in range(4)]
        assert {each.failed for each in found} == {frozenset()}


@pytest.mark.parametrize("kind", ["promotion", "fax"])
def test_who_is_not_ready_in_time(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def slow(_: Campaign, numbers: Sequence[int]) -> Collection[int]:
        return [number for number in numbers if number > 1]

    monkeypatch.setattr(
        "workers.services.base.find_handler", lambda name: slow if name == "promotion" else None
    )
    prepare = SqlServices("", None).find(HANDLER)  # type: ignore[arg-type]  # it reads nothing
    campaign = replace(SPRING, kind=kind)
    expected = ServiceAnswers({}, [2, 3] if kind == "promotion" else ())
    assert prepare(campaign, [0, 1, 2, 3], 0, 0) == expected


def test_which_handlers_and_services_are_installed() -> None:
    assert handlers.find_handler("promotion") is handlers.promotion
    assert handlers.promotion(SPRING, [1, 2]) == ()
    assert handlers.find_handler("fax") is None
    assert load_services_factory("sql") is SqlServices
    assert load_services_factory("simulated") is SimulatedServices


def simulated(database: Database, name: ServiceName, **failures: object) -> Service:
    settings = SimulatedServicesSettings(
        seed=42,
        audience="spring",
        defects={"coupon_issue": 0.2, "coupon_expired": 0.3},
        failures={name: ServiceFailures.model_validate(failures)},
    )
    return SimulatedServices(settings.model_dump_json(), database).find(name)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_simulated_services_have_no_answer_for_those_that_the_draws_say(
    database: Database, rate: float
) -> None:
    size = 200
    people: dict[int, dict[str, object]] = {3: {"coupon_id": "C3"}}
    campaign = make_batch(database, Plan(size=size), people).campaign
    service = simulated(database, COUPON, error_rate=rate)
    settings = SimulatedServicesSettings(
        seed=42,
        audience="spring",
        defects={"coupon_issue": 0.2, "coupon_expired": 0.3},
        failures={COUPON: ServiceFailures(error_rate=rate)},
    )
    always = draw_unanswered(
        settings.model_copy(update={"failures": {}}), "spring", COUPON, 0, 0, size
    )
    for attempt in range(2):
        expected = draw_unanswered(settings, "spring", COUPON, attempt, 0, size)
        answers = service(campaign, range(size), attempt, campaign.started_at)
        assert {*answers.failed} == {*expected.nonzero()[0].tolist()}
        assert {*answers.found} == {*range(size)} - {*answers.failed}
        assert expected[always].all(), "who has a planted failure never has an answer"
        some = service(campaign, [150, 7, 60], attempt, campaign.started_at)
        assert {*some.failed} == {7, 60, 150} & {*answers.failed}, "whomever one asks together with"
    assert bool(expected.all()) is (rate == 1.0)
    assert 0.1 < always.mean() < 0.3
    assert service(campaign, [], 0, campaign.started_at).found == {}


@pytest.mark.parametrize(
    ("seconds", "away"), [(0, False), (0.999, False), (1, True), (3.999, True), (4, False)]
)
def test_a_simulated_outage_is_a_time_since_the_beginning_of_the_run(
    database: Database, seconds: float, away: bool
) -> None:
    campaign = make_batch(database, Plan(size=2)).campaign
    outage = timedelta(seconds=1), timedelta(seconds=4)
    service = simulated(database, SUBSCRIPTION, outage=outage)
    now = campaign.started_at + from_seconds(seconds)
    if away:
        with pytest.raises(ServiceUnavailable, match="the subscription service is away"):
            service(campaign, [0, 1], 0, now)
    else:
        answers = service(campaign, [0, 1], 0, now)
        assert ({*answers.found}, {*answers.failed}) == (set(), set())
