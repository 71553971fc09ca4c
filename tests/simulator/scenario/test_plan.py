"""Planned campaigns: what references of a scenario file resolve to, and which are refused."""

from datetime import timedelta
from pathlib import Path

import pytest

from simulator.audience.formats import AudienceFile
from simulator.scenario.file import Scenario, load_scenario
from simulator.scenario.gateways import GatewaySection
from simulator.scenario.organizations import (
    ChannelSection,
    MessageLimitSection,
    OrganizationSection,
)
from simulator.scenario.plan import select_audience_campaigns
from simulator.world.behaviour import ServiceFailures, TimeWindow
from tests.support.scenarios import assert_error, read_refusal
from tracker.status import Reason
from workers.services.base import ServiceName

WORLD = """\
name = "world"

[organization]
message_limit = { count = 3, days = 7 }
email = { sender = "Acme Mail" }

[organizations.prepaid]
name = "Prepaid"
credit = 10
sms = { enabled = false }

[coupon_series.spring]
[coupon_series.stale]
active = false

[gateways.email]
attempts = 2
[gateways.slow]
enabled = false

[services.coupon]
error_rate = 0.25
outage = { from = "1s", to = "1m" }
[services.handler]

[[campaigns]]
name = "one"
channel = "email"
audience = 10
requires = ["coupon", "referral"]
coupon_series = "spring"
defects = { coupon_issue = 0.1, referral_service = 0.1, timeout = 0.1, subscription_service = 0.1 }

[[campaigns]]
name = "two"
channel = "sms"
audience = { same_as = "one" }
after = "one"
gateway = "slow"
kind = "fax"
sender = "Me"

[[campaigns]]
name = "three"
channel = "email"
audience = { same_as = "two" }
requires = ["coupon"]
coupon_series = "stale"

[[campaigns]]
name = "four"
channel = "sms"
audience = "people.csv"
organization = "prepaid"

[[campaigns]]
name = "five"
channel = "email"
audience = "people.csv"

[[campaigns]]
name = "six"
channel = "email"
audience = "people.csv"
organization = "prepaid"
after = "two"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "people.csv").write_text("customer_id,email\n1,a@example.com\n")
    return tmp_path / "world.toml"


@pytest.fixture
def world(file: Path) -> Scenario:
    file.write_text(WORLD)
    return load_scenario(file)


def test_campaigns_keep_the_keys_of_their_table(world: Scenario) -> None:
    one, two, three, *_, six = world.campaigns
    assert (one.name, six.name) == ("one", "six")
    assert (one.kind, two.kind) == ("promotion", "fax")
    assert (one.sender, two.sender) == (None, "Me")
    assert one.start == timedelta()
    assert one.arrival_shape.is_blast
    assert [campaign.coupon_series for campaign in (one, two, three)] == ["spring", None, "stale"]
    assert [campaign.is_series_active for campaign in (one, two, three)] == [True, True, False]


def test_predecessors_are_all_campaigns_that_settle_before(world: Scenario) -> None:
    assert [campaign.after for campaign in world.campaigns] == [
        None,
        "one",
        None,
        None,
        None,
        "two",
    ]
    assert world.campaigns[1].predecessors == {"one"}
    assert world.campaigns[2].predecessors == set()
    assert world.campaigns[5].predecessors == {"one", "two"}


def test_organizations_and_gateways_are_resolved(world: Scenario) -> None:
    one, two, _, four, *_ = world.campaigns
    assert one.organization == OrganizationSection(
        message_limit=MessageLimitSection(count=3, days=7),
        email=ChannelSection(sender="Acme Mail"),
    )
    assert (one.organization_key, four.organization_key) == (None, "prepaid")
    assert one.channel_settings == ChannelSection(sender="Acme Mail")
    assert two.channel_settings == ChannelSection()
    assert (four.organization.name, four.organization.credit) == ("Prepaid", 10)
    assert four.channel_settings == ChannelSection(enabled=False)
    assert (one.gateway_key, one.gateway.attempts) == ("email", 2)
    assert (two.gateway_key, two.gateway) == ("slow", GatewaySection(enabled=False))
    assert (four.gateway_key, four.gateway) == ("sms", GatewaySection()), "not in the file"


def test_campaigns_share_audiences(world: Scenario, file: Path) -> None:
    audiences = [campaign.audience for campaign in world.campaigns]
    owners = [audience.owner for audience in audiences]
    assert owners == ["one", "one", "one", "four", "five", "four"], "one file, two organizations"
    generated, *_, imported, _ = audiences
    assert (generated.source, generated.label) == (10, "generated for one")
    assert generated.requires == ("coupon", "referral", "coupon")
    assert set(generated.defects) == {
        Reason.COUPON_ISSUE.slug,
        Reason.REFERRAL_SERVICE.slug,
        Reason.TIMEOUT.slug,
        Reason.SUBSCRIPTION_SERVICE.slug,
    }
    assert isinstance(imported.source, AudienceFile)
    assert (imported.source.path, imported.label) == (file.parent / "people.csv", "people.csv")
    users = select_audience_campaigns(world.campaigns, generated)
    assert [user.name for user in users] == ["one", "two", "three"]


def test_campaigns_carry_the_failures_of_the_services(world: Scenario) -> None:
    two = world.campaigns[1]
    outage = TimeWindow.model_validate({"from": "1s", "to": "1m"})
    assert two.services.audience == "one"
    assert two.services.failures == {
        ServiceName.COUPON: ServiceFailures(error_rate=0.25, outage=outage),
        ServiceName.HANDLER: ServiceFailures(),
    }
    calm = two.without_outages().services.failures
    assert calm[ServiceName.COUPON] == ServiceFailures(error_rate=0.25)


BAD_LINES = (
    # (part of the file, its replacement, the wrong key, the expected value)
    ('same_as = "one"', 'same_as = "on"', "campaigns[1].audience.same_as", "did you mean one"),
    (
        'same_as = "one"',
        'same_as = "two"',
        "campaigns[1].audience.same_as",
        "expected a campaign that comes earlier",
    ),
    (
        'same_as = "one"',
        'same_as = "six"',
        "campaigns[1].audience.same_as",
        "got 'six'; expected a campaign",
    ),
    ('same_as = "one"', "same_as = 3", "campaigns[1].audience", "same_as = "),
    ('same_as = "one"', 'like = "one"', "campaigns[1].audience", "same_as = "),
    ('same_as = "one"', "", "campaigns[1].audience", "same_as = "),
    ('after = "one"', 'after = "noe"', "campaigns[1].after", "did you mean one"),
    (
        'after = "one"',
        'after = "two"',
        "campaigns[1].after",
        "got 'two'; expected a campaign that comes earlier",
    ),
    ('after = "one"', "after = 1", "campaigns[1].after", "expected a string"),
    ('gateway = "slow"', 'gateway = "slw"', "campaigns[1].gateway", "did you mean slow"),
    ('gateway = "slow"', 'gateway = "email"', "gateways.slow", "no campaign uses it"),
    ('kind = "fax"', 'kind = ""', "campaigns[1].kind", "expected a name of letters, digits"),
    ('sender = "Me"', "sender = 3", "campaigns[1].sender", "expected a string"),
    ('series = "stale"', 'series = "stael"', "campaigns[2].coupon_series", "did you mean stale"),
    ('coupon_series = "stale"', "", "coupon_series.stale", "no campaign uses it"),
    (
        "[coupon_series.stale]",
        "[coupon_series.'']",
        "coupon_series",
        "expected a name of letters, digits",
    ),
    ("active = false", "active = 0", "coupon_series.stale.active", "expected true or false"),
    ("active = false", "activ = false", "coupon_series.stale.activ", "did you mean active"),
    (
        'organization = "prepaid"\n\n',
        'organization = "prepayed"\n\n',
        "campaigns[3].organization",
        "did you mean prepaid",
    ),
    (
        'audience = "people.csv"\norganization = "prepaid"\nafter',
        'audience = { same_as = "one" }\norganization = "prepaid"\nafter',
        "campaigns[5].audience",
        "customers of another organization",
    ),
    (
        "[organizations.prepaid]",
        "[organizations.idle]\n[organizations.prepaid]",
        "organizations.idle",
        "no campaign uses it",
    ),
    ("credit = 10", "credit = -1", "organizations.prepaid.credit", "expected at least 0"),
    ("credit = 10", "credti = 10", "organizations.prepaid.credti", "did you mean credit"),
    ("count = 3", "count = 0", "organization.message_limit.count", "expected at least 1"),
    ("days = 7", "days = '7'", "organization.message_limit.days", "expected an integer"),
    ("days = 7", "days = 36501", "organization.message_limit.days", "expected at most 36,500"),
    (
        "enabled = false }",
        "enabled = 'no' }",
        "organizations.prepaid.sms.enabled",
        "expected true or false",
    ),
    ('sender = "Acme Mail"', "sendr = 'x'", "organization.email.sendr", "did you mean sender"),
    ("[services.coupon]", "[services.cupon]", "services.cupon", "expected"),
    ("error_rate = 0.25", "error_rate = 1.1", "services.coupon.error_rate", "a share from 0 to 1"),
    (
        "error_rate = 0.25",
        "eror_rate = 0.1",
        "services.coupon.eror_rate",
        "did you mean error_rate",
    ),
    ('to = "1m"', 'to = "1s"', "services.coupon.outage.to", "later than `from`"),
    ('to = "1m"', 'to = "soon"', "services.coupon.outage.to", 'expected a duration like "800ms"'),
    (', to = "1m"', "", "services.coupon.outage.to", "missing"),
    (
        'requires = ["coupon", "referral"]',
        "",
        "campaigns[0].defects.coupon_issue",
        'expected "coupon" in',
    ),
    (
        '"coupon", "referral"',
        '"coupon"',
        "campaigns[0].defects.referral_service",
        'expected "referral"',
    ),
    (
        'audience = { same_as = "two" }',
        'audience = { same_as = "two" }\ndefects = { unsubscribed = 0.1 }',
        "campaigns[2].defects",
        "only allowed with audience = NUMBER",
    ),
)


@pytest.mark.parametrize(
    ("line", "instead", "key", "expected"),
    BAD_LINES,
    ids=[f"{key} {instead[:40]}" for _, instead, key, _ in BAD_LINES],
)
def test_wrong_references_and_values_are_refused(
    file: Path, line: str, instead: str, key: str, expected: str
) -> None:
    assert line in WORLD
    file.write_text(WORLD.replace(line, instead, 1))
    assert_error(read_refusal(file), file, key, expected)


def test_campaigns_can_not_wait_in_a_circle(file: Path) -> None:
    circle = WORLD.replace("audience = 10\n", 'audience = 10\nafter = "two"\n')
    file.write_text(circle)
    assert_error(
        read_refusal(file),
        file,
        "campaigns[0].after",
        "got 'two'; expected a campaign that comes earlier",
    )
