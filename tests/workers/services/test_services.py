"""The services that checks and dispatch depend on: retries, failures, answers."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pytest

from simulator.world.services import SimulatedServices
from tests.support.factory import (
    SPRING,
    Plan,
    ScriptedServices,
    make_batch,
    not_sent_for,
    read_states,
    step_context,
)
from tracker.clock import Instant
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

pytestmark = pytest.mark.usefixtures("no_retry_delay")

UNAVAILABLE = ServiceUnavailable("coupon service unavailable")

COUPON, HANDLER = ServiceName.COUPON, ServiceName.HANDLER
REFERRAL, SUBSCRIPTION = ServiceName.REFERRAL, ServiceName.SUBSCRIPTION

Answers = Mapping[ServiceName, Mapping[int, object]]

COUPONS: Answers = {COUPON: dict.fromkeys(range(4), Coupon("C"))}

Script = Sequence[Collection[int] | ServiceUnavailable]


@pytest.mark.parametrize(
    ("script", "calls", "answered", "failed"),
    [
        pytest.param([], [[1, 2, 3]], {1, 2, 3}, set(), id="all at once"),
        pytest.param([[2]], [[1, 2, 3], [2]], {1, 2, 3}, set(), id="one on the second call"),
        pytest.param(
            [[1, 2], [2]], [[1, 2, 3], [1, 2], [2]], {1, 2, 3}, set(), id="one on the last call"
        ),
        pytest.param([[2], [2], [2]], [[1, 2, 3], [2], [2]], {1, 3}, {2}, id="one not at all"),
        pytest.param(
            [[1, 2, 3]] * 9, [[1, 2, 3]] * MAX_SERVICE_CALLS, set(), {1, 2, 3}, id="none at all"
        ),
        pytest.param([[9]], [[1, 2, 3]], {1, 2, 3}, set(), id="failure of an unknown number"),
    ],
)
@pytest.mark.parametrize("is_last_try", [False, True])
def test_a_service_is_called_again_for_customers_without_an_answer(
    script: Script, calls: list[list[int]], answered: set[int], failed: set[int], is_last_try: bool
) -> None:
    coupons = dict.fromkeys((1, 2, 3), Coupon("C"))
    services = ScriptedServices({COUPON: script}, {COUPON: coupons})
    answers = call_service(services, COUPON, SPRING, [1, 2, 3], is_last_try=is_last_try)
    assert services.calls == [(COUPON, attempt, call) for attempt, call in enumerate(calls)]
    assert ({*answers.by_number}, {*answers.failed}) == (answered, failed)


@pytest.mark.parametrize(
    ("script", "failed"),
    [
        pytest.param([UNAVAILABLE], {1, 2, 3}, id="on the first call"),
        pytest.param([[2, 3], UNAVAILABLE], {2, 3}, id="on the second call"),
    ],
)
def test_an_unavailable_service_raises_except_on_the_last_try(
    script: Script, failed: set[int]
) -> None:
    services = ScriptedServices({COUPON: script})
    with pytest.raises(ServiceUnavailable, match="coupon service unavailable"):
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
    """Judge a batch of four customers, and return the states of those that are not queued."""
    people: dict[int, dict[str, object]] = {
        number: {"coupon_id": "C", "custom": "{}"} for number in range(4)
    }
    batch = make_batch(database, Plan(size=4, requires=("coupon", "referral")), people)
    before = read_states(database, batch)
    assert set(before.values()) == {QUEUED_STATE}
    try:
        context = step_context(database, batch, is_last_try=is_last_try)
        before_gateway.judge_batch(context, step, checks_of(step), services)
    except ServiceUnavailable:
        assert read_states(database, batch) == before, "no message is moved"
        raise
    return {
        number: state
        for number, state in read_states(database, batch).items()
        if state != QUEUED_STATE
    }


class NamingExceptions:
    """A coupon service that names one customer, fails for another one, and loads the rest later."""

    def __init__(self, *, is_reachable: bool) -> None:
        self._is_reachable = is_reachable

    def find(self, _name: ServiceName) -> Service:
        return self._answer

    def _answer(
        self, _campaign: Campaign, _numbers: Sequence[int], attempt: int, _now: Instant
    ) -> ServiceAnswers:
        if attempt:
            return ServiceAnswers({2: Coupon("C-2")})
        return ServiceAnswers({1: Coupon()}, {2}, self._load)

    def _load(self, numbers: Sequence[int]) -> Mapping[int, Coupon]:
        if not self._is_reachable:
            raise UNAVAILABLE
        return {number: Coupon(f"C-{number}") for number in numbers}


def test_the_rest_can_be_loaded_after_a_retry_that_answers_in_full() -> None:
    services = NamingExceptions(is_reachable=True)
    answers = call_service(services, COUPON, SPRING, range(1, 5), is_last_try=False)
    completed = answers.complete(range(1, 5), is_last_try=False)
    assert completed.by_number[1] == Coupon()
    assert [completed.by_number[number].coupon_id for number in (2, 3, 4)] == ["C-2", "C-3", "C-4"]


def test_an_unavailable_rest_raises_except_on_the_last_try() -> None:
    services = NamingExceptions(is_reachable=False)
    answers = call_service(services, COUPON, SPRING, range(1, 5), is_last_try=False)
    with pytest.raises(ServiceUnavailable):
        answers.complete(range(1, 5), is_last_try=False)
    completed = answers.complete(range(1, 5), is_last_try=True)
    assert ({*completed.by_number}, {*completed.failed}) == ({1, 2}, {3, 4})


@pytest.mark.parametrize("name", REASONS)
def test_a_step_blocks_customers_for_whom_a_service_failed(
    database: Database, name: ServiceName
) -> None:
    step, reason = REASONS[name]
    once, never = [[1, 2]], [[1, 2], [1], [1]]
    assert judge(database, ScriptedServices({name: once}, COUPONS), step) == {}
    assert judge(database, ScriptedServices({name: never}, COUPONS), step) == {
        1: not_sent_for(reason)
    }


def test_a_customer_without_an_answer_has_no_coupon_and_no_opt_out(database: Database) -> None:
    some: Answers = {COUPON: {0: Coupon("C"), 3: Coupon("C")}, REFERRAL: {1: "R"}}
    missing = not_sent_for(Reason.COUPON_ID_MISSING)
    assert judge(database, ScriptedServices({}, some), Step.VALIDATE) == {1: missing, 2: missing}
    assert judge(database, ScriptedServices({}, some), Step.SUPPRESS) == {}


@pytest.mark.parametrize("name", REASONS)
def test_a_step_raises_for_an_unavailable_service_and_gives_up_on_the_last_try(
    database: Database, name: ServiceName
) -> None:
    step, reason = REASONS[name]
    services = ScriptedServices({name: [UNAVAILABLE]}, COUPONS)
    with pytest.raises(ServiceUnavailable):
        judge(database, services, step)
    all_blocked = dict.fromkeys(range(4), not_sent_for(reason))
    assert judge(database, services, step, is_last_try=True) == all_blocked


@pytest.mark.parametrize(
    ("step", "requires", "called"),
    [
        (Step.SUPPRESS, (), [SUBSCRIPTION]),
        (Step.SUPPRESS, ("coupon", "referral"), [SUBSCRIPTION]),
        (Step.VALIDATE, (), []),
        (Step.VALIDATE, ("last_store", "tag:a", "membership"), []),
        (Step.VALIDATE, ("coupon",), [COUPON]),
        (Step.VALIDATE, ("referral", "coupon"), [COUPON, REFERRAL]),
    ],
)
def test_a_step_calls_only_the_services_that_it_needs(
    database: Database, step: Step, requires: Sequence[str], called: list[ServiceName]
) -> None:
    campaign = make_batch(database, Plan(size=3, requires=requires)).campaign
    services = ScriptedServices()
    candidates = load_candidates(database, campaign, range(3), step, services, campaign.clock.now())
    assert [(name, numbers) for name, _, numbers in services.calls] == [
        (name, [0, 1, 2]) for name in called
    ]
    default = SUBSCRIBED if step is Step.SUPPRESS else None
    assert [
        (candidate.number, candidate.subscription, candidate.recent) for candidate in candidates
    ] == [(number, default, 0) for number in range(3)]


def test_a_candidate_has_the_answers_for_its_customer(database: Database) -> None:
    people: dict[int, dict[str, object]] = {
        1: {"unsubscribed_email": True, "hard_bounces_email": 2, "soft_bounces_sms": 5},
        2: {
            "ndnc": True,
            "unsubscribed_sms": True,
            "marked_spam_sms": True,
            "hard_bounces_sms": 3,
        },
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
            (Subscription(unsubscribed=True, ndnc=True, marked_spam=True), 3, 0),
            (Subscription(), 0, 0),
        ],
    }
    services = SqlServices("", database)
    for channel in Channel:
        plan = Plan(size=4, channel=channel, requires=("coupon", "referral"))
        campaign = make_batch(database, plan, people).campaign
        load = partial(load_candidates, database, campaign, range(4))
        candidates: list[Candidate] = load(Step.SUPPRESS, services, campaign.clock.now())
        assert [
            (
                candidate.subscription,
                candidate.customer.hard_bounces,
                candidate.customer.soft_bounces,
            )
            for candidate in candidates
        ] == expected[channel]
        candidates = load(Step.VALIDATE, services, campaign.clock.now())
        coupons = [Coupon()] * 3 + [Coupon("C", "soon", True)]
        assert [candidate.coupon for candidate in candidates] == coupons
        referrals = [f"R-c{number}" for number in range(4)]
        assert [candidate.referral for candidate in candidates] == referrals
        assert {candidate.failed for candidate in candidates} == {frozenset()}


@pytest.mark.parametrize("kind", ["promotion", "fax"])
def test_messages_that_are_not_ready_in_time_have_failed(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
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
