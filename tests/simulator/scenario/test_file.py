"""Scenario files: what their tables accept, and how all else is refused."""

from datetime import timedelta
from pathlib import Path

import pytest

from simulator.audience.formats import AudienceFile
from simulator.scenario.file import Scenario, load_scenario
from simulator.scenario.gateways import GatewaySection
from simulator.world.behaviour import LatencyDistribution
from tests.support.scenarios import assert_error, read_refusal
from tracker.errors import UsageError
from tracker.replies import ReplyKind, ReplyRule, parse_rules
from tracker.status import Channel
from workers.gateways.http_settings import HttpSettings

SAMPLE = """\
name = "festive-sale"
seed = 42

[organization]
name = "Acme Retail"
credit = 500_000                     # messages; absent: unlimited
message_limit = { count = 3, days = 1 }

[[campaigns]]
name = "diwali-email"
channel = "email"
audience = 60_000                    # or audience = "customers.csv", beside the scenario
requires = ["coupon", "last_store"]  # coupon, last_store, profile, tag:NAME, field:NAME, membership

[campaigns.defects]                  # share of the audience made to fail each check
unsubscribed = 0.03
email_missing = 0.01
coupon_expired = 0.02

[gateways.email]
latency = { median = "800ms", p99 = "4s" }
hard_bounce = 0.02
soft_bounce = 0.03                   # a share of each attempt
attempts = 3
not_delivered = 0.005
rate = 5_000                         # messages a second; absent: unlimited

[engagement.email]
open = 0.35
click = 0.06
spam = 0.001
unsubscribe = 0.004

[clock]
speed = 1
"""


def toml(top: str = "", campaign: str = "", /, **values: str | None) -> str:
    """Return a scenario with one campaign, with more lines at the top or in the campaign.

    The keyword arguments are keys of the campaign as TOML; None leaves a key out.
    """
    usual: dict[str, str | None] = {"name": '"diwali"', "channel": '"email"', "audience": "10"}
    lines = [f"{key} = {value}" for key, value in (usual | values).items() if value is not None]
    return "\n".join(['name = "sale"', top, "[[campaigns]]", *lines, campaign])


def http(url: str, *keys: str) -> str:
    url = url or "url = 'http://localhost/'"
    return f"gateways.sms = {{ kind = 'http', http = {{ {', '.join((url, *keys))} }} }}"


def latency(median: str, p99: str) -> str:
    """Return the line of a gateway's latency."""
    return f"gateways.sms.latency = {{ median = '{median}', p99 = '{p99}' }}"


def window(key: str, start: str, end: str, *more: str) -> str:
    inner = ", ".join([f"from = '{start}'", f"to = '{end}'", *more])
    return f"gateways.sms.{key} = {{ {inner} }}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sale.toml"


def load(file: Path, text: str) -> Scenario:
    file.write_text(text)
    return load_scenario(file)


def test_a_sample_is_loaded(file: Path) -> None:
    scenario = load(file, SAMPLE)
    [campaign] = scenario.campaigns
    assert (scenario.name, scenario.seed, scenario.clock.speed) == ("festive-sale", 42, 1)
    assert (campaign.name, campaign.channel) == ("diwali-email", Channel.EMAIL)
    assert campaign.audience.source == 60_000
    assert campaign.requires == ("coupon", "last_store")
    assert campaign.audience.defects == {
        "unsubscribed": 0.03,
        "email_missing": 0.01,
        "coupon_expired": 0.02,
    }
    assert campaign.organization.credit == 500_000
    assert campaign.gateway == GatewaySection(
        latency=LatencyDistribution.model_validate({"median": "800ms", "p99": "4s"}),
        hard_bounce=0.02,
        soft_bounce=0.03,
        not_delivered=0.005,
        attempts=3,
        rate=5_000,
    )
    assert scenario.text == SAMPLE


def test_optional_tables_have_defaults(file: Path) -> None:
    scenario = load(file, toml())
    assert scenario.seed == 0
    organization = scenario.campaigns[0].organization
    assert organization.credit is None
    assert (organization.hard_bounce_limit, organization.soft_bounce_limit) == (2, 3)
    assert scenario.campaigns[0].gateway == GatewaySection()


def test_a_real_gateway_has_rules_of_replies_and_a_lower_limit_of_bounces(file: Path) -> None:
    (file.parent / "people.csv").write_text("customer_id,email\n1,a@shop.internal\n")
    rules = '[{ match = "5.2.2", as = "hard" }]'
    text = toml(
        f'gateways.email = {{ kind = "smtp", replies = {rules}, unconfirmed_after = "6h" }}',
        audience='"people.csv"',
    )
    [campaign] = load(file, text).campaigns
    assert campaign.organization.hard_bounce_limit == 1
    assert campaign.gateway.unconfirmed_delay == timedelta(hours=6)
    assert parse_rules(campaign.gateway.replies_as_json) == (ReplyRule("5.2.2", ReplyKind.HARD),)
    explicit = text.replace("[[campaigns]]", "[organization]\nhard_bounce_limit = 4\n[[campaigns]]")
    assert load(file, explicit).campaigns[0].organization.hard_bounce_limit == 4


def test_an_http_gateway_records_its_request_and_its_rules_without_secrets(file: Path) -> None:
    (file.parent / "people.csv").write_text("customer_id,email\n1,a@shop.internal\n")
    lines = (
        'gateways.email.kind = "http"',
        'gateways.email.http.url = "https://api.shop.internal/send"',
        'gateways.email.http.headers.Authorization = "Bearer ${SENDTRACE_HTTP_KEY}"',
        'gateways.email.http.json = { to = "{{ recipient }}", n = [1, true] }',
        'gateways.email.http.receipts_within = "2m"',
        'gateways.email.replies = [{ match = "422", json = { "e.c" = 7, d = true }, as = "soft" }]',
    )
    text = toml("\n".join(lines), audience='"people.csv"')
    [campaign] = load(file, text).campaigns
    settings = HttpSettings.model_validate_json(campaign.gateway.real_settings)
    assert settings.receipts_within == timedelta(minutes=2)
    assert campaign.gateway.http is not None
    assert settings.model_dump() == campaign.gateway.http.model_dump()
    assert settings.body == {"to": "{{ recipient }}", "n": [1, True]}
    [rule] = parse_rules(campaign.gateway.replies_as_json)
    assert rule == ReplyRule("422", ReplyKind.SOFT, {"e.c": "7", "d": "true"})
    assert campaign.organization.hard_bounce_limit == 1


def test_a_file_may_begin_with_a_byte_order_mark(file: Path) -> None:
    file.write_text(toml(), encoding="utf-8-sig")
    assert load_scenario(file).name == "sale"


def test_a_seed_of_the_command_line_replaces_that_of_the_file(file: Path) -> None:
    file.write_text(toml("seed = 1"))
    assert load_scenario(file, seed=7).seed == 7
    assert load_scenario(file, seed=0).seed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0s", timedelta()),
        ("250us", timedelta(microseconds=250)),
        ("800ms", timedelta(milliseconds=800)),
        ("1.5 s", timedelta(seconds=1.5)),
        ("2m", timedelta(minutes=2)),
        ("1h", timedelta(hours=1)),
    ],
)
def test_durations(file: Path, text: str, expected: timedelta) -> None:
    scenario = load(file, toml(latency(text, text), channel='"sms"'))
    assert scenario.campaigns[0].gateway.latency.median == expected


def test_an_audience_file_with_a_mapping_beside_the_scenario(file: Path) -> None:
    (file.parent / "crm.mapping.toml").write_text('separator = ";"\n[columns]\nMail = "email"\n')
    (file.parent / "crm.csv").write_text("Mail;x\na@example.com;1\n")
    table = '{ file = "crm.csv", mapping = "crm.mapping.toml", max_rejects = "1 %" }'
    scenario = load(file, toml(audience=table))
    audience = scenario.campaigns[0].audience
    assert isinstance(audience.source, AudienceFile)
    assert audience.source.load_format().max_rejects == 0.01
    assert (audience.label, audience.is_imported) == ("crm.csv", True)
    assert [path.name for path in scenario.source_files[1:]] == ["crm.csv", "crm.mapping.toml"]
    with pytest.raises(UsageError, match="got an input file"):
        scenario.refuse_to_overwrite("--json", file.parent / "crm.mapping.toml")


def test_an_audience_file_lies_beside_the_scenario(file: Path) -> None:
    (file.parent / "people.csv").write_text("customer_id,email\n1,a@example.com\n")
    scenario = load(file, toml(audience='"people.csv"'))
    assert scenario.source_files == [file, file.parent / "people.csv"]


WRONG = {
    "expected a string": ("3", "1.5", "true", "[]", "{}"),
    "expected an integer": ('"3"', "1.5", "true", "[]", "{}"),
    "expected a number": ('"0.5"', "true", "[]", "{}"),
    "expected true or false": ("1", '"yes"', "[]"),
    "expected a table": ("3", "true", '"x"', "[1]"),
    "expected an array": ("3", "true", '"x"', "{}"),
    'expected a duration like "800ms", "4s" or "2m"': (
        "3",
        "true",
        '"800"',
        '"-1s"',
        '"1 day"',
        "[]",
    ),
    "expected 'email' or 'sms'": ("3", "true", '"fax"', '"EMAIL"', "[]"),
    'expected a number, a file like "customers.csv"': ("1.5", "true", "[]"),
}
"""Expected values, and values of other types."""

KINDS = {
    "name": "expected a string",
    "seed": "expected an integer",
    "organization": "expected a table",
    "organization.name": "expected a string",
    "organization.enabled": "expected true or false",
    "organization.credit": "expected an integer",
    "organization.hard_bounce_limit": "expected an integer",
    "organization.message_limit": "expected a table",
    "organization.message_limit.days": "expected an integer",
    "campaigns": "expected an array",
    "campaigns[0].name": "expected a string",
    "campaigns[0].channel": "expected 'email' or 'sms'",
    "campaigns[0].audience": 'expected a number, a file like "customers.csv"',
    "campaigns[0].requires": "expected an array",
    "campaigns[0].requires[0]": "expected a string",
    "campaigns[0].defects": "expected a table",
    "campaigns[0].defects.unsubscribed": "expected a number",
    "gateways": "expected a table",
    "gateways.email": "expected a table",
    "gateways.email.latency": "expected a table",
    "gateways.email.latency.median": 'expected a duration like "800ms", "4s" or "2m"',
    "gateways.email.hard_bounce": "expected a number",
    "gateways.email.attempts": "expected an integer",
    "gateways.email.rate": "expected an integer",
    "engagement": "expected a table",
    "engagement.email.open": "expected a number",
    "clock": "expected a table",
    "clock.speed": "expected a number",
}
"""Keys, and the expected value of each."""


def mistyped(key: str, value: str) -> str:
    """Return a scenario with a value for a key."""
    if key == "name":
        return toml().replace('name = "sale"', f"name = {value}")
    if key == "campaigns":
        return f'name = "sale"\ncampaigns = {value}'
    if not key.startswith("campaigns[0]."):
        return toml(f"{key} = {value}")
    key = key.removeprefix("campaigns[0].")
    if key == "requires[0]":
        return toml(requires=f"[{value}]")
    return toml("", f"{key} = {value}") if "." in key else toml("", "", **{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param(key, value, id=f"{key}={value}")
        for key, kind in KINDS.items()
        for value in WRONG[kind]
    ],
)
def test_values_of_a_wrong_type_are_refused(file: Path, key: str, value: str) -> None:
    file.write_text(mistyped(key, value))
    assert_error(read_refusal(file), file, f"{key}: ", KINDS[key])


BAD = (
    ("seeed = 1", "seeed", "did you mean seed?"),
    ("colours.red = 1", "colours", "expected one of 15, such as name, seed or organization"),
    ("load.rate = 1", "load", "unknown key"),
    ("path = 'x'", "path", "unknown key"),
    ("clock.sped = 1", "clock.sped", "did you mean speed?"),
    ("gateways.email.hard_bounc = 0.1", "gateways.email.hard_bounc", "mean hard_bounce?"),
    ("gateways.sms.latency.p95 = '1s'", "gateways.sms.latency.p95", "did you mean p99?"),
    ("organization.name = ''", "organization.name", "expected a non-empty string"),
    (r'organization.name = "a\u0000"', "organization.name", "expected a non-empty string"),
    ("organization.credit = -1", "organization.credit", "got -1; expected at least 0"),
    (f"organization.credit = {2**63}", "organization.credit", "expected at most 9,223"),
    ("organization.hard_bounce_limit = 0", "organization.hard_bounce_limit", "at least 1"),
    (
        f"organization.hard_bounce_limit = {2**31}",
        "organization.hard_bounce_limit",
        "at most 1,000",
    ),
    ("organization.message_limit = { count = 1 }", "organization.message_limit.days", "missing"),
    ("gateways.fax.attempts = 1", "gateways.fax", "no campaign uses it"),
    ("gateways.sms.attempts = 0", "gateways.sms.attempts", "got 0; expected at least 1"),
    ("gateways.sms.attempts = 101", "gateways.sms.attempts", "expected at most 100"),
    ("gateways.sms.rate = 0", "gateways.sms.rate", "expected at least 1"),
    (
        "gateways.email.replies = [{ match = '5.2.2', as = 'soft' }]",
        "gateways.email.replies",
        "only allowed with a gateway that isn't simulated",
    ),
    (
        "gateways.email = { kind = 'smtp', replies = [{ match = 'x' }] }",
        "gateways.email.replies[0].as",
        "missing",
    ),
    (
        "gateways.email = { kind = 'smtp', replies = [{ match = 'x', as = 'gone' }] }",
        "gateways.email.replies[0].as",
        "expected 'hard', 'soft' or 'us'",
    ),
    (
        "gateways.email = { kind = 'smtp', replies = [{ match = '5', json = {a=1}, as = 'us' }] }",
        "gateways.email.replies[0].json",
        'only allowed with kind = "http"',
    ),
    ("gateways.sms.kind = 'http'", "gateways.sms.http", "required with kind"),
    ("gateways.sms.http.url = 'http://localhost/'", "gateways.sms.http", "only allowed with kind"),
    (http("url = 'localhost:80'"), "gateways.sms.http.url", "expected a URL such as"),
    (http("url = 'ftp://localhost/'"), "gateways.sms.http.url", "expected a URL such as"),
    (http("url = 'http://ann:pw@localhost/'"), "gateways.sms.http.url", "with credentials"),
    (http("url = 'http://localhost/?api_key=x'"), "gateways.sms.http.url", "with credentials"),
    (http("", "method = 'GET'"), "gateways.sms.http.method", "expected 'POST' or 'PUT'"),
    (http("", "headers.Host = 'a'"), "gateways.sms.http.headers", "a header of your own"),
    (http("", "headers.X = 'a${PATH}'"), "gateways.sms.http.headers", "begins with SENDTRACE_HTTP"),
    (http("", "headers.X-Api-Key = 'abc'"), "gateways.sms.http.headers", "${SENDTRACE_HTTP_KEY}"),
    (http("", 'headers.X = "a\\nb"'), "gateways.sms.http.headers", "printable ASCII"),
    (http("", "json = { to = 'ann' }"), "gateways.sms.http.json", "expected {{ recipient }}"),
    (http("", "json = { to = '{{ recipent }}' }"), "gateways.sms.http.json", "mean recipient?"),
    (http("", "json = 5"), "gateways.sms.http.json", "expected a table"),
    (http("", "receipts_within = 60"), "gateways.sms.http.receipts_within", "expected a duration"),
    (http("", "parallel = 0"), "gateways.sms.http.parallel", "expected at least 1"),
    (http("", "idempotency_header = 'a b'"), "gateways.sms.http.idempotency_header", "of your own"),
    (http("", "jason = {}"), "gateways.sms.http.jason", "did you mean json?"),
    ("gateways.sms.hard_bounce = 1.5", "gateways.sms.hard_bounce", "a share from 0 to 1"),
    ("gateways.sms.soft_bounce = nan", "gateways.sms.soft_bounce", "a share from 0 to 1"),
    (
        "gateways.sms = { hard_bounce = 0.6, soft_bounce = 0.5 }",
        "gateways.sms",
        "sum to 1.1; expected at most 1",
    ),
    ("gateways.sms.latency.median = '2s'", "gateways.sms.latency.p99", "missing"),
    (latency("2s", "1s"), "gateways.sms.latency.p99", "expected at least the median, 2s"),
    (latency("0s", "1s"), "gateways.sms.latency.median", "got 0s; expected above 0"),
    (latency("1s", "9999999999999999h"), "gateways.sms.latency.p99", "expected at most 365 days"),
    ("gateways.sms.reject_rate = 1.0", "gateways.sms.reject_rate", "less than 1"),
    ("gateways.sms.receipts.lost = 1.5", "gateways.sms.receipts.lost", "a share from 0 to 1"),
    ("gateways.sms.receipts.lots = 0.1", "gateways.sms.receipts.lots", "did you mean lost?"),
    ("gateways.sms.receipts = 0.1", "gateways.sms.receipts", "expected a table"),
    (window("outage", "5s", "5s"), "gateways.sms.outage.to", "expected later than `from`, 5s"),
    ("gateways.sms.outage.from = '5s'", "gateways.sms.outage.to", "missing"),
    (
        window("slow", "5s", "2s", "factor = 2"),
        "gateways.sms.slow.to",
        "got 2s; expected later than `from`",
    ),
    (window("slow", "5s", "6s", "factor = 0.5"), "gateways.sms.slow.factor", "expected at least 1"),
    (window("slow", "5s", "6s"), "gateways.sms.slow.factor", "missing"),
    ("engagement.email.open = -0.1", "engagement.email.open", "a share from 0 to 1"),
    ("engagement.email.machine_open = 1.1", "engagement.email.machine_open", "from 0 to 1"),
    ("engagement.email.again = 1.1", "engagement.email.again", "a share from 0 to 1"),
    (
        "engagement.email.delay = { median = '2h', p99 = '1h' }",
        "engagement.email.delay.p99",
        "expected at least the median",
    ),
    ("engagement.email.delay.median = '2h'", "engagement.email.delay.p99", "missing"),
    ("engagement.email.opne = 0.1", "engagement.email.opne", "did you mean open?"),
    ("engagement.sms.open = 0.1", "engagement", "expected email"),
    ("clock.speed = 0", "clock.speed", "got 0; expected more than 0"),
    ("clock.speed = inf", "clock.speed", "100,000"),
    ("seed = -1", "seed", "got -1; expected at least 0"),
    (f"seed = {2**63}", "seed", "less than 9,223,372,036,854,775,808"),
    (f"seed = {10**30}", "seed", "expected less than"),
    ("seed =", "is not TOML", "line 2"),
    ("seed = 1\nseed = 2", "is not TOML", "line 3"),
)
"""Lines at the top of a scenario, the wrong key, and the expected value."""

BAD_CAMPAIGNS = (
    ("audiance = 3", "audiance", "did you mean audience?"),
    ("path = 'x'", "path", "unknown key"),
    ("name = 2026-11-24", "name", "expected a string"),
    ("name = 'a b'", "name", "expected a name of letters, digits"),
    ("name = ''", "name", "expected a name of letters, digits"),
    (f"name = '{'x' * 101}'", "name", "at most 100 characters"),
    (r'name = "a\n"', "name", "expected a name of letters, digits"),
    ("channel = 'fax'", "channel", "expected 'email' or 'sms'"),
    ("audience = 0", "audience", "expected 1 to 100,000,000 customers"),
    ("audience = true", "audience", "got true; expected a number"),
    ("audience = -5", "audience", "expected 1 to 100,000,000 customers"),
    ("audience = 100_000_001", "audience", "expected 1 to 100,000,000 customers"),
    ("audience = 'nobody.csv'", "audience", "nobody.csv"),
    ("audience = 'strange.csv'", "audience", "expected customer_id"),
    ("audience = '.'", "audience", "expected"),
    ("audience = ''", "audience", "expected a non-empty string"),
    (r'audience = "\u0000"', "audience", "expected a non-empty string"),
    ("audience = { mapping = 'x' }", "audience", 'or { file = "crm.csv" }, or { same_as'),
    ("audience = { file = 3 }", "audience.file", "got 3; expected a string"),
    ("audience = { file = 'x', maping = 'y' }", "audience.maping", "did you mean mapping?"),
    ("audience = { file = 'x', separator = ':' }", "audience.separator", "expected"),
    ("audience = { file = 'x', columns.a = 'b' }", "audience.columns", "a: unknown column 'b'"),
    ("audience = { file = 'people.csv', mapping = 'no.toml' }", "audience", "no.toml: can't be"),
    ("audience = { file = 'people.csv', columns.x = 'email' }", "audience", "no column 'x'"),
    ("requires = ['cupon']", "requires", "expected coupon, referral, last_store"),
    ("requires = ['tag:']", "requires", "tag:NAME"),
    (
        "defects = { unsubscribed = 0.7, email_missing = 0.4 }",
        "defects",
        "sum to 1.1; expected at most 1",
    ),
    ("defects.unsubscribed = 3", "defects.unsubscribed", "a share from 0 to 1"),
    ("defects.unsubscribe = 0.1", "defects.unsubscribe", "did you mean unsubscribed?"),
    (
        "defects.out_of_credit = 0.1",
        "defects.out_of_credit",
        "expected one of 15, such as unsubscribed",
    ),
    ("defects.ndnc = 0.1", "defects.ndnc", "blocks sms messages only"),
    ("defects.coupon_expired = 0.1", "defects.coupon_expired", 'expected "coupon" in requires'),
    ("defects.data_missing = 0.1", "defects.data_missing", 'expected "last_store", "profile"'),
    (
        "audience = 'people.csv'\ndefects.ndnc = 0.1",
        "defects",
        "only allowed with audience = NUMBER",
    ),
)
"""Lines of a campaign, the wrong key, and the expected value."""

TWINS = "[[campaigns]]\nname = 'a'\nchannel = 'sms'\naudience = 1\n" * 2

BAD_WHOLES = (
    (TWINS, "name", "missing"),
    ("name = 'x'", "campaigns", "missing"),
    ("name = 'x'\ncampaigns = []", "campaigns", "expected at least one"),
    ("name = 'x'\n[campaigns]\nname = 'c'", "campaigns", "expected an array"),
    ("name = 'x'\n" + TWINS, "campaigns", "'a'; expected different names"),
    (toml(audience=None), "campaigns[0].audience", "missing"),
    (toml(channel=None), "campaigns[0].channel", "missing"),
)
"""Whole scenarios, the wrong key, and the expected value."""


@pytest.mark.parametrize(("line", "key", "expected"), BAD, ids=[bad[0][:60] for bad in BAD])
def test_a_wrong_line_is_refused(file: Path, line: str, key: str, expected: str) -> None:
    file.write_text(toml(line))
    assert_error(read_refusal(file), file, key, expected)


@pytest.mark.parametrize(
    ("line", "key", "expected"), BAD_CAMPAIGNS, ids=[bad[0][:60] for bad in BAD_CAMPAIGNS]
)
def test_a_wrong_campaign_is_refused(file: Path, line: str, key: str, expected: str) -> None:
    (file.parent / "people.csv").write_text("customer_id,email\n1,a@example.com\n")
    (file.parent / "strange.csv").write_text("customer_id,shoe size\n")
    file.write_text(toml("", line, **{line.split(" = ")[0]: None}))
    assert_error(read_refusal(file), file, f"campaigns[0].{key}", expected)


@pytest.mark.parametrize(("text", "key", "expected"), BAD_WHOLES)
def test_a_wrong_scenario_is_refused(file: Path, text: str, key: str, expected: str) -> None:
    file.write_text(text)
    assert_error(read_refusal(file), file, key, expected)


def test_a_number_too_long_for_python(file: Path) -> None:
    file.write_text(toml(f"seed = {'9' * 5_000}"))
    assert str(file) in read_refusal(file)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(toml("seed = -1"), id="of the scenario"),
        pytest.param(toml("gateways.sms.attempts = 0"), id="of a table"),
        pytest.param(toml(channel='"fax"'), id="of a campaign"),
    ],
)
def test_one_error_is_reported_once(file: Path, text: str) -> None:
    file.write_text(text)
    assert len(read_refusal(file).split("\n")) == 1


def test_all_errors_are_reported_at_once(file: Path) -> None:
    file.write_text(toml("seed = -1\nclock.sped = 2\ngateways.sms.attempts = 0"))
    keys = {line.split(": ")[1] for line in read_refusal(file).split("\n")}
    assert keys == {"seed", "clock.sped", "gateways.sms.attempts"}


def test_a_missing_file(file: Path) -> None:
    assert read_refusal(file) == f"{file}: can't be read: No such file or directory"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert read_refusal(tmp_path) == f"{tmp_path}: can't be read: Is a directory"


def test_a_file_that_is_not_utf_8(file: Path) -> None:
    file.write_bytes(toml().encode() + b"# caf\xe9")
    assert read_refusal(file) == f"{file}: is not UTF-8 text"
