"""The oracle predicts the verdicts of the checks for planted defects and imported customers."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from simulator.audience.row_parser import CustomerRecord
from simulator.forced import ForcedOutcome
from simulator.oracle.credit import predict_withheld
from simulator.oracle.oracle import Oracle, build_oracles
from simulator.scenario.gateways import GatewaySection
from simulator.scenario.plan import PlannedCampaign
from simulator.schema import open_database
from simulator.setup.census import AudienceScanner, ImportedAudience
from simulator.setup.record import record_run
from simulator.setup.run import RunCampaign
from simulator.world.defects import (
    DEFECT_FIELDS,
    NO_DEFECT,
    PLANTABLE_REASONS,
    SERVICE_BY_REASON,
    draw_defects,
    explain_unplantable,
)
from simulator.world.gateway import SimulatedGateway, SimulatedGatewaySettings
from tests.support.customers import PLAIN
from tests.support.factory import (
    AUTHOR,
    READY,
    Plan,
    in_status,
    make_batch,
    make_campaign,
    move,
    not_sent_for,
    read_states,
    step_context,
)
from tests.support.inline_runs import (
    build_campaign,
    build_plan,
    build_scenario,
    enqueue_campaign,
    run_step,
)
from tracker.queries.next_step import CHECK_CHAIN, CHECK_STEPS
from tracker.record.journal import State, enqueue_batch
from tracker.settings import load_settings
from tracker.status import Channel, Reason, Status
from tracker.store.database import Database
from tracker.store.schema.messages import NO_REASON
from workers.checks.base import checks_of
from workers.gateways.throttle import UnlimitedThrottle
from workers.services.base import Service, ServiceName, SqlServices
from workers.steps import at_gateway, before_gateway

pytestmark = pytest.mark.usefixtures("no_retry_delay")

EVERYTHING = (
    *("coupon", "referral", "last_store", "profile", "membership", "tag:city", "field:size"),
)

DELIVERED, SOFT = Status.DELIVERED, Status.SOFT_BOUNCED

GOOD = "anna@example.com"

SOUND_RECORD = PLAIN._replace(
    email=GOOD,
    mobile="+447700900000",
    mobile_e164="+447700900000",
    loyalty_member=True,
    last_store="Store 1",
    profile="standard",
    coupon_id="CPN-0",
    coupon_expires="2099-12-31",
    custom='{"tag:city": "yes", "field:size": "yes"}',
)


def judge_all(database: Database, run_campaign: RunCampaign) -> Counter[object]:
    """Return the states of a campaign's messages after all checks and the dispatch."""
    [batch] = enqueue_campaign(database, run_campaign)
    for step in CHECK_CHAIN:
        run_step(database, batch, step)
    return Counter(read_states(database, batch).values())


PLANTS = [
    (reason, channel)
    for reason in PLANTABLE_REASONS
    for channel in Channel
    if explain_unplantable(reason, channel, EVERYTHING) is None
]


def test_every_defect_can_be_planted_somewhere() -> None:
    assert {reason for reason, _ in PLANTS} == set(DEFECT_FIELDS)
    assert {(reason, channel) for reason in DEFECT_FIELDS for channel in Channel} - {*PLANTS} == {
        (Reason.EMAIL_MISSING, Channel.SMS),
        (Reason.NDNC, Channel.EMAIL),
        (Reason.MOBILE_MISSING_OR_INVALID, Channel.EMAIL),
    }


@pytest.mark.parametrize(
    ("reason", "channel"), PLANTS, ids=[f"{reason.slug}-{channel}" for reason, channel in PLANTS]
)
def test_a_planted_defect_blocks_for_its_reason_only(
    database: Database, tmp_path: Path, reason: Reason, channel: Channel
) -> None:
    campaign = build_campaign(channel=channel, requires=EVERYTHING, defects={reason.slug: 1.0})
    [run_campaign] = record_run(
        database, build_scenario(campaign), tmp_path, lambda _: None
    ).campaigns
    assert judge_all(database, run_campaign) == {not_sent_for(reason): 5}
    [oracle] = build_oracles([run_campaign])
    [(_, outcomes)] = oracle.predict()
    assert outcomes.reasons.tolist() == [reason] * 5
    assert outcomes.statuses.tolist() == [Status.NOT_SENT] * 5


@pytest.mark.parametrize("channel", Channel)
def test_customers_without_a_defect_pass_every_check(
    database: Database, tmp_path: Path, channel: Channel
) -> None:
    scenario = build_scenario(build_campaign(channel=channel, requires=EVERYTHING))
    [run_campaign] = record_run(database, scenario, tmp_path, lambda _: None).campaigns
    assert judge_all(database, run_campaign) == {READY: 5}
    [oracle] = build_oracles([run_campaign])
    assert oracle.count_sendable() == (5, 0)


class Failing(SqlServices):
    """The services of the workers, without an answer for customers with a planted failure."""

    def find(self, name: ServiceName) -> Service:
        unanswered = {
            number
            for number, reason in enumerate(DEFECT_FIELDS)
            if SERVICE_BY_REASON.get(reason) == name
        }
        answer = super().find(name)
        return lambda campaign, numbers, attempt, now: replace(
            answer(campaign, numbers, attempt, now), failed=unanswered & {*numbers}
        )


NEEDS = ((), EVERYTHING, ("coupon", "membership"), *((requirement,) for requirement in EVERYTHING))


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("requires", NEEDS, ids=" ".join)
def test_a_defect_can_be_planted_exactly_where_it_stops_a_message(
    sqlite: Database, requires: Sequence[str], channel: Channel
) -> None:
    sound = {**SOUND_RECORD._asdict()}
    people = {
        place: {**sound, "customer_id": f"c{place}", **defect}
        for place, defect in enumerate(DEFECT_FIELDS.values())
    }
    plan = Plan(channel=channel, requires=requires, size=len(people))
    batch = make_batch(sqlite, plan, people)
    services = Failing("", sqlite)
    for step in CHECK_STEPS:
        before_gateway.judge_batch(step_context(sqlite, batch), step, checks_of(step), services)
    before_gateway.dispatch(step_context(sqlite, batch), services)
    assert [*read_states(sqlite, batch).values()] == [
        not_sent_for(reason) if explain_unplantable(reason, channel, requires) is None else READY
        for reason in DEFECT_FIELDS
    ]


def test_defects_have_the_given_shares() -> None:
    count = 100_000
    defects = {"unsubscribed": 0.03, "coupon_expired": 0.2, "email_missing": 0.001}
    counts = Counter(draw_defects(42, "spring", defects, 0, count).tolist())
    assert counts.keys() == {*(Reason[slug.upper()] for slug in defects), NO_DEFECT}
    for slug, share in defects.items():
        drawn = counts[Reason[slug.upper()]] / count
        assert drawn == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / count))


@pytest.mark.parametrize(
    ("defects", "expected"),
    [
        pytest.param({}, {NO_DEFECT}, id="none"),
        pytest.param({"unsubscribed": 0.0}, {NO_DEFECT}, id="share of 0"),
        pytest.param({"unsubscribed": 1.0}, {Reason.UNSUBSCRIBED}, id="share of 1"),
        pytest.param(
            {"unsubscribed": 0.5, "ndnc": 0.5}, {Reason.UNSUBSCRIBED, Reason.NDNC}, id="adding up"
        ),
    ],
)
def test_defects_with_extreme_shares(defects: dict[str, float], expected: set[int]) -> None:
    defect_codes = draw_defects(42, "spring", defects, 17, 2_000)
    assert set(defect_codes.tolist()) == expected
    assert np.array_equal(defect_codes[100:], draw_defects(42, "spring", defects, 117, 1_900))


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Open a database for all examples, each of which adds a campaign."""
    home = tmp_path_factory.mktemp("oracle")
    url = f"sqlite:///{home / 'oracle.db'}"
    with closing(open_database(load_settings(home=home, database_url=url))) as database:
        yield database


TODAY = datetime.now(UTC).date()
DAYS = [str(TODAY + timedelta(days)) for days in (-400, -1, 0, 1, 400)]

texts = st.sampled_from(["x", "x", "x", None])  # An import turns an empty cell into None.
counts = st.sampled_from([*[0] * 6, 1, 2, 3, 7, 99_999])
seldom = st.sampled_from([*[False] * 6, True])

people = st.builds(
    lambda hard, soft, **different: SOUND_RECORD._replace(
        hard_bounces_email=hard,
        hard_bounces_sms=hard,
        soft_bounces_email=soft,
        soft_bounces_sms=soft,
        **different,
    ),
    hard=counts,
    soft=counts,
    email=st.sampled_from(
        [*[GOOD] * 4, *["anna@shop.internal"] * 2, None, "anna", "a@b", "a b@example.com"]
    ),
    mobile_e164=st.sampled_from([*["+447700900000"] * 3, None]),
    loyalty_member=seldom.map(lambda flag: not flag),
    unsubscribed_email=seldom,
    unsubscribed_sms=seldom,
    ndnc=seldom,
    last_store=texts,
    profile=texts,
    coupon_id=texts,
    coupon_expires=st.sampled_from([None, "soon", "31/12/2031", "2027-02-30", *DAYS]),
    coupon_redeemed=seldom,
    custom=st.dictionaries(
        st.sampled_from(["tag:city", "field:size", "tag:other"]), st.just("x")
    ).map(json.dumps),
)


def oracle_of(
    campaign: PlannedCampaign, size: int, imported_audience: ImportedAudience | None = None
) -> Oracle:
    """Return the oracle of a campaign whose audience no other campaign uses."""
    return Oracle(
        campaign=campaign,
        scenario_campaigns=(campaign,),
        size=size,
        imported_audience=imported_audience,
    )


def scan(records: Sequence[CustomerRecord], campaign: PlannedCampaign) -> ImportedAudience:
    """Return what the oracle knows of imported customers."""
    scanner = AudienceScanner([campaign], TODAY)
    assert [*scanner.scan(records)] == records
    return scanner.build_imported_audience()


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    audience=st.lists(people, min_size=1, max_size=20),
    channel=st.sampled_from(Channel),
    requires=st.lists(st.sampled_from(EVERYTHING), unique=True),
    limits=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    gateway=st.sampled_from(["simulated", "smtp"]),
)
@example(
    audience=[SOUND_RECORD._replace(coupon_expires=day) for day in DAYS],
    channel=Channel.EMAIL,
    requires=["coupon"],
    limits=(1, 3),
    gateway="simulated",
)
@example(
    audience=[SOUND_RECORD._replace(custom="{}")],
    channel=Channel.EMAIL,
    requires=["tag:city"],
    limits=(1, 3),
    gateway="simulated",
)
@example(
    audience=[SOUND_RECORD, SOUND_RECORD._replace(email="anna@shop.internal")],
    channel=Channel.EMAIL,
    requires=[],
    limits=(1, 3),
    gateway="smtp",
)
def test_predictions_for_imported_customers_are_the_verdicts_of_the_checks(
    sqlite: Database,
    audience: list[CustomerRecord],
    channel: Channel,
    requires: list[str],
    limits: tuple[int, int],
    gateway: str,
) -> None:
    planned = build_plan(
        build_campaign(channel=channel, requires=tuple(requires)),
        organization={"hard_bounce_limit": limits[0], "soft_bounce_limit": limits[1]},
    )
    planned = replace(planned, gateway=GatewaySection(kind=gateway))
    oracle = oracle_of(planned, len(audience), scan(audience, planned))
    [(_, outcomes)] = oracle.predict()

    records = {
        number: {**customer._asdict(), "customer_id": f"c{number}"}
        for number, customer in enumerate(audience)
    }
    plan = Plan(channel=channel, requires=requires, size=len(audience))
    campaign = make_campaign(sqlite, plan, records)
    campaign = replace(
        campaign,
        gateway_kind=gateway,
        organization=replace(
            campaign.organization, hard_bounce_limit=limits[0], soft_bounce_limit=limits[1]
        ),
    )
    batch = enqueue_batch(sqlite, campaign, batch=0, first=0, size=len(audience), author=AUTHOR)
    services = SqlServices("", sqlite)
    for step in CHECK_STEPS:
        before_gateway.judge_batch(step_context(sqlite, batch), step, checks_of(step), services)
    reasons = [state.reason or NO_DEFECT for state in read_states(sqlite, batch).values()]
    assert outcomes.reasons.tolist() == reasons


@pytest.mark.parametrize(
    ("channel", "email", "label", "end"),
    [
        pytest.param(
            Channel.EMAIL,
            "anna",
            -ForcedOutcome.MALFORMED,
            in_status(Status.HARD_BOUNCED),
            id="malformed",
        ),
        pytest.param(Channel.EMAIL, GOOD, NO_DEFECT, in_status(SOFT, 3), id="well-formed"),
        pytest.param(Channel.SMS, "anna", NO_DEFECT, in_status(SOFT, 3), id="sms"),
    ],
)
def test_a_malformed_address_bounces_hard_on_the_first_attempt(
    database: Database, channel: Channel, email: str, label: int, end: State
) -> None:
    bouncing = GatewaySection(soft_bounce=1.0, attempts=3)
    plan = Plan(
        channel=channel,
        size=1,
        gateway_settings=SimulatedGatewaySettings(seed=42, behaviour=bouncing).model_dump_json(),
    )
    batch = make_batch(database, plan, {0: {"email": email}})
    gateway = SimulatedGateway(plan.gateway_settings, database)
    move(database, batch, [0], READY)
    for _ in range(3):
        at_gateway.submit(step_context(database, batch), gateway, UnlimitedThrottle())
        at_gateway.deliver(step_context(database, batch), gateway)
    assert read_states(database, batch) == {0: end}

    planned = build_plan(build_campaign(channel=channel), gateways={channel: bouncing})
    imported = scan([SOUND_RECORD._replace(email=email)], planned)
    assert imported.record_defects["spring"].tolist() == [label]
    [(_, outcomes)] = oracle_of(planned, 1, imported).predict()
    assert (outcomes.statuses[0], outcomes.attempts[0]) == (end.status, end.attempt)
    assert outcomes.reasons[0] == NO_REASON


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        pytest.param(GatewaySection(), {(DELIVERED, 1)}, id="delivered"),
        pytest.param(GatewaySection(hard_bounce=1.0), {(Status.HARD_BOUNCED, 1)}, id="hard"),
        pytest.param(GatewaySection(not_delivered=1.0), {(Status.NOT_DELIVERED, 1)}, id="lost"),
        pytest.param(GatewaySection(soft_bounce=1.0, attempts=4), {(SOFT, 4)}, id="soft"),
        pytest.param(
            GatewaySection(soft_bounce=0.5, attempts=2),
            {(DELIVERED, 1), (DELIVERED, 2), (SOFT, 2)},
            id="soft, then delivered",
        ),
    ],
)
def test_predictions_cover_all_attempts(
    gateway: GatewaySection, expected: set[tuple[Status, int]]
) -> None:
    planned = build_plan(build_campaign(audience=200), gateways={"email": gateway})
    [(first, outcomes)] = oracle_of(planned, 200).predict()
    assert (first, len(outcomes)) == (0, 200)
    ends = zip(outcomes.statuses.tolist(), outcomes.attempts.tolist(), strict=True)
    assert set(ends) == expected
    assert set(outcomes.reasons.tolist()) == {NO_REASON}


@pytest.mark.parametrize("imported", [False, True], ids=["generated", "imported"])
def test_predictions_do_not_depend_on_their_chunks(
    monkeypatch: pytest.MonkeyPatch, imported: bool
) -> None:
    campaign = build_campaign(
        audience=100, requires=("coupon",), defects={"unsubscribed": 0.3, "coupon_issue": 0.1}
    )
    later = build_campaign("later", audience={"same_as": "spring"}, after="spring")
    scenario = build_scenario(
        campaign,
        later,
        gateways={"email": {"soft_bounce": 0.3, "hard_bounce": 0.1}},
        services={"subscription": {"error_rate": 0.5}},
    )
    defects = np.resize(
        np.array(
            [NO_DEFECT, -ForcedOutcome.BOUNCE, Reason.NDNC, NO_DEFECT, NO_DEFECT, NO_DEFECT],
            np.int8,
        ),
        100,
    )
    coupons = np.resize(np.array([NO_DEFECT] * 6 + [Reason.COUPON_REDEEMED], np.int8), 100)
    last_days = np.resize(np.array([8, 9, 9, 9, 9], np.int32), 100)
    hard, soft = np.resize(np.array([0] * 8 + [9], np.int16), 100), np.zeros(100, np.int16)
    by_name = (
        dict.fromkeys(["spring", "later"], defects),
        dict.fromkeys(["spring", "later"], coupons),
    )
    keys = {channel: np.zeros(100, np.uint64) for channel in Channel}
    bounces = (dict.fromkeys(Channel, hard), dict.fromkeys(Channel, soft))
    records = (*by_name, *bounces, last_days, 9, np.zeros(100, np.int8), keys, True)
    audience = ImportedAudience(*records) if imported else None
    for planned in scenario.campaigns:
        oracle = Oracle(
            campaign=planned,
            scenario_campaigns=scenario.campaigns,
            size=100,
            imported_audience=audience,
        )
        monkeypatch.setattr("simulator.oracle.oracle.CHUNK_MESSAGES", 50_000)
        [(_, whole)] = oracle.predict()
        monkeypatch.setattr("simulator.oracle.oracle.CHUNK_MESSAGES", 31)
        chunks = list(oracle.predict())
        assert [first for first, _ in chunks] == [0, 31, 62, 93]
        for field in ("statuses", "reasons", "attempts", "possible_reasons", "uncertain"):
            joined = np.concatenate([getattr(outcomes, field) for _, outcomes in chunks])
            assert np.array_equal(joined, getattr(whole, field))


@pytest.mark.parametrize(
    ("credit", "sizes", "expected"),
    [
        pytest.param(None, [10, 5], 0, id="unlimited"),
        pytest.param(20, [10, 5], 0, id="enough"),
        pytest.param(15, [10, 5], 0, id="just enough"),
        pytest.param(12, [10, 5], 3, id="short"),
        pytest.param(0, [10, 5], 15, id="none"),
        pytest.param(2, [1], 0, id="one alone"),
    ],
)
def test_credit_withholds_the_messages_beyond_it(
    credit: int | None, sizes: list[int], expected: int
) -> None:
    campaigns = [build_campaign(f"c{size}", audience=size) for size in sizes]
    scenario = build_scenario(*campaigns, organization={"credit": credit})
    oracles = [
        oracle_of(planned, size) for planned, size in zip(scenario.campaigns, sizes, strict=True)
    ]
    [allowance] = predict_withheld(oracles).values()
    assert (allowance.withheld, bool(allowance.scarce_channels)) == (expected, expected > 0)


def test_two_chains_of_campaigns_to_one_audience_are_predicted() -> None:
    """Each campaign of a chain depends on the other chain, which depends on the first campaign."""
    scenario = build_scenario(
        build_campaign("one", audience=20),
        build_campaign("two", audience={"same_as": "one"}),
        build_campaign("after-one", audience={"same_as": "one"}, after="one"),
        build_campaign("after-two", audience={"same_as": "one"}, after="two"),
    )
    for planned in scenario.campaigns:
        oracle = Oracle(campaign=planned, scenario_campaigns=scenario.campaigns, size=20)
        [(_, outcomes)] = oracle.predict()
        assert outcomes.sent.all()
