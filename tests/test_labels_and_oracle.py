"""Labels, customers, checks and the oracle: what is planted is made, judged and foretold."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from simulator.gateway import Settings, SimulatedGateway
from simulator.labels import DEFECTS, PLANTABLE, SOUND, planted, why_not_plantable
from simulator.load import Loaded, record_run
from simulator.oracle import MALFORMED, Oracle, labels_of_records, out_of_credit
from simulator.run import open_database
from simulator.scenario import Campaign, Gateway, Organization, Scenario
from tests.factory import (
    AUTHOR,
    READY,
    SPRING,
    Plan,
    ended,
    make_batch,
    make_campaign,
    move,
    states,
    stopped,
)
from tracker import catalog
from tracker.clock import to_datetime
from tracker.database import Database
from tracker.journal import QUEUED, State, enqueue
from tracker.schema import NO_REASON, customers
from tracker.settings import load_settings
from tracker.status import Channel, Reason, Status, Step
from workers import stages
from workers.checks.base import Candidate, Customer, checks_of, judge

EVERYTHING = ("coupon", "last_store", "profile", "membership", "tag:city", "field:size")

CHECKING = (Step.SUPPRESS, Step.VALIDATE)
DELIVERED, SOFT = Status.DELIVERED, Status.SOFT_BOUNCED

SOUND_CUSTOMER = Customer(
    number=0,
    customer_id="c0",
    email="anna@example.com",
    mobile="+447700900000",
    mobile_e164="+447700900000",
    loyalty_member=True,
    last_store="Store 1",
    profile="standard",
    coupon_id="CPN-0",
    coupon_expires="2099-12-31",
    custom='{"tag:city": "yes", "field:size": "yes"}',
)


def scenario_of(
    *campaigns: Campaign, organization: Organization | None = None, gateway: Gateway | None = None
) -> Scenario:
    return Scenario(
        path=Path("test.toml"),
        text="",
        name="test",
        seed=42,
        organization=organization or Organization(),
        campaigns=campaigns,
        gateways=dict.fromkeys(Channel, gateway or Gateway()),
    )


def campaign_of(
    name: str = "spring",
    *,
    channel: Channel = Channel.EMAIL,
    size: int = 5,
    requires: Sequence[str] = EVERYTHING,
    defects: Mapping[str, float] | None = None,
) -> Campaign:
    return Campaign(
        name=name,
        channel=channel,
        audience=size,
        requires=tuple(requires),
        defects=dict(defects or {}),
    )


def checked(database: Database, loaded: Loaded) -> Counter[object]:
    """The states of a campaign's messages after the real checks."""
    batch = enqueue(database, loaded.campaign, batch=0, first=0, size=loaded.size, by=AUTHOR)
    for step in CHECKING:
        stages.judge_batch(database, batch, step, checks_of(step), AUTHOR)
    return Counter(states(database, batch).values())


PLANTS = [
    (reason, channel)
    for reason in PLANTABLE
    for channel in Channel
    if why_not_plantable(reason, channel, EVERYTHING) is None
]


def test_every_defect_can_be_planted_somewhere() -> None:
    assert {reason for reason, _ in PLANTS} == set(DEFECTS)
    assert {(reason, channel) for reason in DEFECTS for channel in Channel} - {*PLANTS} == {
        (Reason.EMAIL_MISSING, Channel.SMS),
        (Reason.NDNC, Channel.EMAIL),
        (Reason.MOBILE_MISSING_OR_INVALID, Channel.EMAIL),
    }


@pytest.mark.parametrize(
    ("reason", "channel"), PLANTS, ids=[f"{reason.slug}-{channel}" for reason, channel in PLANTS]
)
def test_the_checks_find_the_defect_and_no_other(
    database: Database, tmp_path: Path, reason: Reason, channel: Channel
) -> None:
    campaign = campaign_of(channel=channel, defects={reason.slug: 1.0})
    [loaded] = record_run(database, scenario_of(campaign), tmp_path, lambda _: None).campaigns
    assert checked(database, loaded) == {stopped(reason): 5}
    [(_, fates)] = loaded.oracle.predict()
    assert fates.reasons.tolist() == [reason] * 5
    assert fates.statuses.tolist() == [Status.NOT_SENT] * 5


@pytest.mark.parametrize("channel", Channel)
def test_customers_without_a_defect_pass_every_check(
    database: Database, tmp_path: Path, channel: Channel
) -> None:
    scenario = scenario_of(campaign_of(channel=channel))
    [loaded] = record_run(database, scenario, tmp_path, lambda _: None).campaigns
    assert checked(database, loaded) == {QUEUED: 5}
    assert loaded.oracle.sendable() == 5


@pytest.mark.parametrize("channel", Channel)
@pytest.mark.parametrize("reason", PLANTABLE, ids=lambda reason: str(reason.slug))
def test_a_defect_can_be_planted_exactly_where_a_check_speaks(
    reason: Reason, channel: Channel
) -> None:
    defect: dict[str, Any] = {**DEFECTS[reason]}
    customer = SOUND_CUSTOMER._replace(**defect)
    for requires in ((), EVERYTHING, ("coupon", "membership"), *((each,) for each in EVERYTHING)):
        campaign = replace(SPRING, channel=channel, requires=requires)
        verdicts = [
            judge([Candidate(customer, campaign)], checks_of(step), datetime.now(UTC))
            for step in CHECKING
        ]
        plantable = why_not_plantable(reason, channel, requires) is None
        assert verdicts == [
            {reason: [0]} if plantable and reason.step is step else {} for step in CHECKING
        ], requires


def test_shares_are_those_that_were_asked_for() -> None:
    count = 100_000
    defects = {"unsubscribed": 0.03, "coupon_expired": 0.2, "email_missing": 0.001}
    labels = Counter(planted(42, "spring", defects, 0, count).tolist())
    assert labels.keys() == {*(Reason[slug.upper()] for slug in defects), SOUND}
    for slug, share in defects.items():
        found = labels[Reason[slug.upper()]] / count
        assert found == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / count))


@pytest.mark.parametrize(
    ("defects", "expected"),
    [
        pytest.param({}, {SOUND}, id="none"),
        pytest.param({"unsubscribed": 0.0}, {SOUND}, id="share of 0"),
        pytest.param({"unsubscribed": 1.0}, {Reason.UNSUBSCRIBED}, id="share of 1"),
        pytest.param(
            {"unsubscribed": 0.5, "ndnc": 0.5}, {Reason.UNSUBSCRIBED, Reason.NDNC}, id="adding up"
        ),
    ],
)
def test_labels_at_the_ends(defects: dict[str, float], expected: set[int]) -> None:
    labels = planted(42, "spring", defects, 17, 2_000)
    assert set(labels.tolist()) == expected
    assert np.array_equal(labels[100:], planted(42, "spring", defects, 117, 1_900))


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One database for all examples: each makes a campaign of its own in it."""
    home = tmp_path_factory.mktemp("oracle")
    url = f"sqlite:///{home / 'oracle.db'}"
    with closing(open_database(load_settings(home=home, database_url=url))) as opened:
        yield opened


TODAY = datetime.now(UTC).date()
DAYS = [str(TODAY + timedelta(days)) for days in (-400, -1, 0, 1, 400)]

texts = st.sampled_from(["x", "x", "x", None])  # an import makes nothing of an empty cell
counts = st.sampled_from([*[0] * 6, 1, 2, 3, 7])
seldom = st.sampled_from([*[False] * 6, True])
good = "anna@example.com"

people = st.fixed_dictionaries(
    {
        "email": st.sampled_from([*[good] * 6, None, "anna", "a@b", "a b@example.com"]),
        "mobile_e164": st.sampled_from([*["+447700900000"] * 3, None]),
        "loyalty_member": seldom.map(lambda flag: not flag),
        "unsubscribed_email": seldom,
        "unsubscribed_sms": seldom,
        "ndnc": seldom,
        "hard_bounces": counts,
        "soft_bounces": counts,
        "last_store": texts,
        "profile": texts,
        "coupon_id": texts,
        "coupon_expires": st.sampled_from([None, "soon", "31/12/2031", "2027-02-30", *DAYS]),
        "coupon_redeemed": seldom,
        "custom": st.dictionaries(
            st.sampled_from(["tag:city", "field:size", "tag:other"]), st.just("x")
        ).map(json.dumps),
    }
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    audience=st.lists(people, min_size=1, max_size=20),
    channel=st.sampled_from(Channel),
    requires=st.lists(st.sampled_from(EVERYTHING), unique=True),
    limits=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
@example(
    audience=[{"coupon_id": "x", "coupon_expires": day} for day in DAYS],
    channel=Channel.EMAIL,
    requires=["coupon"],
    limits=(1, 3),
)
@example(audience=[{}], channel=Channel.EMAIL, requires=["tag:city"], limits=(1, 3))
def test_labels_of_imported_customers_are_the_verdicts_of_the_checks(
    sqlite: Database,
    audience: list[dict[str, object]],
    channel: Channel,
    requires: list[str],
    limits: tuple[int, int],
) -> None:
    plan = Plan(channel=channel, requires=requires, size=len(audience))
    campaign = make_campaign(sqlite, plan, dict(enumerate(audience)))
    organization = Organization(hard_bounce_limit=limits[0], soft_bounce_limit=limits[1])
    described = campaign_of(channel=channel, requires=requires)
    scenario = scenario_of(described, organization=organization)
    now = to_datetime(campaign.clock.now())
    labels = labels_of_records(sqlite, campaign.audience_id, scenario, described, now.date())

    campaign = replace(
        campaign,
        organization=replace(
            campaign.organization, hard_bounce_limit=limits[0], soft_bounce_limit=limits[1]
        ),
    )
    verdicts = verdicts_of_the_checks(sqlite, campaign, now)
    foretold = [SOUND if label == MALFORMED else label for label in labels.tolist()]
    assert foretold == [verdicts.get(number, SOUND) for number in range(len(audience))]


def verdicts_of_the_checks(
    database: Database, campaign: catalog.Campaign, now: datetime
) -> dict[int, Reason]:
    """Why suppress and validate, in this order, stop the customers of a campaign's audience."""
    columns = [customers.c[name] for name in Customer._fields]
    with database.read() as connection:
        rows = connection.execute(
            sa.select(*columns).where(customers.c.audience_id == campaign.audience_id)
        ).all()
    verdicts: dict[int, Reason] = {}
    for step in CHECKING:
        candidates = [Candidate(Customer._make(row), campaign) for row in rows]
        for reason, numbers in judge(candidates, checks_of(step), now).items():
            verdicts = dict.fromkeys(numbers, reason) | verdicts
    return verdicts


@pytest.mark.parametrize(
    ("channel", "email", "label", "end"),
    [
        pytest.param(Channel.EMAIL, "anna", MALFORMED, ended(Status.HARD_BOUNCED), id="malformed"),
        pytest.param(Channel.EMAIL, good, SOUND, ended(SOFT, 3), id="well-formed"),
        pytest.param(Channel.SMS, "anna", SOUND, ended(SOFT, 3), id="of no matter"),
    ],
)
def test_a_malformed_address_bounces_for_good_on_its_first_attempt(
    database: Database, channel: Channel, email: str, label: int, end: State
) -> None:
    bouncing = Gateway(soft_bounce=1.0, attempts=3)
    plan = Plan(
        channel=channel,
        size=1,
        gateway_settings=Settings(seed=42, behaviour=bouncing.behaviour).model_dump_json(),
    )
    batch = make_batch(database, plan, {0: {"email": email}})
    gateway = SimulatedGateway(plan.gateway_settings, database)
    move(database, batch, [0], READY)
    for _ in range(3):
        stages.submit(database, batch, gateway, AUTHOR)
        stages.deliver(database, batch, gateway, AUTHOR)
    assert states(database, batch) == {0: end}

    described = campaign_of(channel=channel, requires=())
    scenario = scenario_of(described, gateway=bouncing)
    labels = labels_of_records(database, batch.campaign.audience_id, scenario, described, TODAY)
    assert labels.tolist() == [label]
    [(_, fates)] = Oracle(scenario, described, 1, labels).predict()
    assert (fates.statuses[0], fates.attempts[0]) == (end.status, end.attempt)
    assert fates.reasons[0] == NO_REASON


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        pytest.param(Gateway(), {(DELIVERED, 1)}, id="delivered"),
        pytest.param(Gateway(hard_bounce=1.0), {(Status.HARD_BOUNCED, 1)}, id="hard"),
        pytest.param(Gateway(not_delivered=1.0), {(Status.NOT_DELIVERED, 1)}, id="lost"),
        pytest.param(Gateway(soft_bounce=1.0, attempts=4), {(SOFT, 4)}, id="soft"),
        pytest.param(
            Gateway(soft_bounce=0.5, attempts=2),
            {(DELIVERED, 1), (DELIVERED, 2), (SOFT, 2)},
            id="soft, then delivered",
        ),
    ],
)
def test_the_oracle_follows_a_message_through_its_attempts(
    gateway: Gateway, expected: set[tuple[Status, int]]
) -> None:
    campaign = campaign_of(size=200)
    [(first, fates)] = Oracle(scenario_of(campaign, gateway=gateway), campaign, 200).predict()
    assert (first, len(fates)) == (0, 200)
    found = zip(fates.statuses.tolist(), fates.attempts.tolist(), strict=True)
    assert set(found) == expected
    assert set(fates.reasons.tolist()) == {NO_REASON}


@pytest.mark.parametrize("imported", [False, True], ids=["generated", "imported"])
def test_predictions_do_not_depend_on_their_chunks(
    monkeypatch: pytest.MonkeyPatch, imported: bool
) -> None:
    campaign = campaign_of(size=100, defects={"unsubscribed": 0.3})
    scenario = scenario_of(campaign, gateway=Gateway(soft_bounce=0.3, hard_bounce=0.1))
    labels = np.resize(np.array([SOUND, MALFORMED, Reason.NDNC, SOUND, SOUND, SOUND], np.int8), 100)
    oracle = Oracle(scenario, campaign, 100, labels if imported else None)
    [(_, whole)] = oracle.predict()
    monkeypatch.setattr("simulator.oracle.CHUNK", 31)
    chunks = list(oracle.predict())
    assert [first for first, _ in chunks] == [0, 31, 62, 93]
    for field in ("statuses", "reasons", "attempts"):
        joined = np.concatenate([getattr(fates, field) for _, fates in chunks])
        assert np.array_equal(joined, getattr(whole, field))


def test_a_disabled_organization_sends_nothing(database: Database, tmp_path: Path) -> None:
    campaign = campaign_of(defects={"unsubscribed": 1.0})
    scenario = scenario_of(campaign, organization=Organization(enabled=False))
    [loaded] = record_run(database, scenario, tmp_path, lambda _: None).campaigns
    disabled = Reason.ORGANIZATION_DISABLED
    assert checked(database, loaded) == {stopped(disabled): 5}
    [(_, fates)] = loaded.oracle.predict()
    assert fates.reasons.tolist() == [disabled] * 5
    assert loaded.oracle.sendable() == 0


@pytest.mark.parametrize(
    ("credit", "sendable", "expected"),
    [
        pytest.param(None, [10, 5], 0, id="unlimited"),
        pytest.param(20, [10, 5], 0, id="enough"),
        pytest.param(15, [10, 5], 0, id="just enough"),
        pytest.param(12, [10, 5], 3, id="short"),
        pytest.param(0, [10, 5], 15, id="none"),
        pytest.param(0, [0], 0, id="nobody to send to"),
    ],
)
def test_how_many_lack_credit(credit: int | None, sendable: list[int], expected: int) -> None:
    scenario = scenario_of(campaign_of(), organization=Organization(credit=credit))
    assert out_of_credit(scenario, sendable) == expected
