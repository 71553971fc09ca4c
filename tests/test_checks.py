"""The checks: what each speaks against, in which order they are asked, and how one is added."""

import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factory import ACME, SPRING
from tracker.catalog import Organization
from tracker.errors import UsageError
from tracker.status import Channel, Reason, Step
from workers.checks.base import GROUP, Candidate, Check, Customer, checks_of, judge

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

NOW = datetime(2026, 11, 24, 23, 59, tzinfo=UTC)

ANNA = Customer(number=0, customer_id="c0", email="anna@example.com", mobile_e164="+447700900000")


def email(
    *requires: str, organization: Organization = ACME, customer: Customer = ANNA
) -> Candidate:
    """A message of an email campaign that needs ``requires``."""
    return Candidate(customer, replace(SPRING, requires=requires, organization=organization))


def sms(*requires: str, customer: Customer = ANNA) -> Candidate:
    """The same of an SMS campaign."""
    return Candidate(customer, replace(SPRING, channel=Channel.SMS, requires=requires))


def anna(**different: Any) -> Customer:
    """A sound customer but for what is ``different``."""
    return ANNA._replace(**different)


def with_coupon(**different: object) -> Candidate:
    """A message with a coupon, which is good but for what is ``different``."""
    good: dict[str, object] = {"coupon_id": "CPN-0", "coupon_expires": "2026-12-31"}
    return email("coupon", customer=anna(**(good | different)))


@dataclass(frozen=True)
class Example:
    """A candidate, and whether the check called ``check`` speaks against it."""

    check: str
    title: str
    speaks: bool
    candidate: Candidate


def against(check: str, title: str, candidate: Candidate) -> Example:
    return Example(check, title, True, candidate)


def nothing(check: str, title: str, candidate: Candidate) -> Example:
    return Example(check, title, False, candidate)


PATIENT = replace(ACME, hard_bounce_limit=5, soft_bounce_limit=9)

EXAMPLES = (
    nothing("organization_disabled", "enabled", email()),
    against("organization_disabled", "disabled", email(organization=replace(ACME, enabled=False))),
    nothing("unsubscribed", "subscribed", email()),
    against("unsubscribed", "email", email(customer=anna(unsubscribed_email=True))),
    against("unsubscribed", "sms", sms(customer=anna(unsubscribed_sms=True))),
    nothing("unsubscribed", "email from sms only", email(customer=anna(unsubscribed_sms=True))),
    nothing("unsubscribed", "sms from email only", sms(customer=anna(unsubscribed_email=True))),
    against("ndnc", "sms to a listed number", sms(customer=anna(ndnc=True))),
    nothing("ndnc", "sms to an unlisted number", sms()),
    nothing("ndnc", "email", email(customer=anna(ndnc=True))),
    nothing("bounced_repeatedly", "never", email()),
    against("bounced_repeatedly", "1 hard", email(customer=anna(hard_bounces=1))),
    nothing("bounced_repeatedly", "2 soft", email(customer=anna(soft_bounces=2))),
    against("bounced_repeatedly", "3 soft", email(customer=anna(soft_bounces=3))),
    nothing(
        "bounced_repeatedly",
        "fewer than a patient organization takes",
        email(organization=PATIENT, customer=anna(hard_bounces=4, soft_bounces=8)),
    ),
    against(
        "bounced_repeatedly",
        "as many soft ones as a patient organization takes",
        email(organization=PATIENT, customer=anna(soft_bounces=9)),
    ),
    against("email_missing", "none", email(customer=anna(email=None))),
    against("email_missing", "empty", email(customer=anna(email=""))),
    nothing("email_missing", "malformed is not missing", email(customer=anna(email="anna"))),
    nothing("email_missing", "sms", sms(customer=anna(email=None))),
    against("mobile_missing_or_invalid", "none", sms(customer=anna(mobile_e164=None))),
    against(
        "mobile_missing_or_invalid", "no number", sms(customer=anna(mobile="12", mobile_e164=None))
    ),
    nothing("mobile_missing_or_invalid", "possible", sms()),
    nothing("mobile_missing_or_invalid", "email", email(customer=anna(mobile_e164=None))),
    against("not_in_loyalty_program", "no member", email("membership")),
    nothing(
        "not_in_loyalty_program", "member", email("membership", customer=anna(loyalty_member=True))
    ),
    nothing("not_in_loyalty_program", "for everybody", email("coupon")),
    against("coupon_id_missing", "none", with_coupon(coupon_id=None)),
    nothing("coupon_id_missing", "one", with_coupon()),
    nothing("coupon_id_missing", "not needed", email(customer=anna(coupon_id=None))),
    against("coupon_date_format", "words", with_coupon(coupon_expires="end of season")),
    against("coupon_date_format", "day first", with_coupon(coupon_expires="31/12/2031")),
    against("coupon_date_format", "no such day", with_coupon(coupon_expires="2027-02-29")),
    nothing("coupon_date_format", "a date", with_coupon()),
    nothing("coupon_date_format", "past is a date", with_coupon(coupon_expires="2020-01-31")),
    nothing("coupon_date_format", "never expires", with_coupon(coupon_expires=None)),
    nothing("coupon_date_format", "not needed", email(customer=anna(coupon_expires="soon"))),
    against("coupon_expired", "yesterday", with_coupon(coupon_expires="2026-11-23")),
    nothing("coupon_expired", "its last day", with_coupon(coupon_expires="2026-11-24")),
    nothing("coupon_expired", "never expires", with_coupon(coupon_expires=None)),
    nothing("coupon_expired", "no date", with_coupon(coupon_expires="soon")),
    nothing("coupon_expired", "not needed", email(customer=anna(coupon_expires="2020-01-31"))),
    against("coupon_redeemed", "redeemed", with_coupon(coupon_redeemed=True)),
    nothing("coupon_redeemed", "not yet", with_coupon()),
    nothing("coupon_redeemed", "not needed", email(customer=anna(coupon_redeemed=True))),
    against("data_missing", "no store", email("last_store")),
    nothing("data_missing", "a store", email("last_store", customer=anna(last_store="Pune"))),
    against("data_missing", "no profile", email("profile", customer=anna(last_store="Pune"))),
    nothing("data_missing", "a profile", email("profile", customer=anna(profile="gold"))),
    against("data_missing", "no tag", email("tag:city")),
    against(
        "data_missing", "empty tag", email("tag:city", customer=anna(custom='{"tag:city":""}'))
    ),
    nothing("data_missing", "a tag", email("tag:city", customer=anna(custom='{"tag:city":"X"}'))),
    against(
        "data_missing", "tag is no field", email("field:a", customer=anna(custom='{"tag:a":"X"}'))
    ),
    against(
        "data_missing",
        "one of two",
        sms("last_store", "field:size", customer=anna(last_store="Pune")),
    ),
    nothing("data_missing", "needs none", email("coupon", "membership")),
    nothing("data_missing", "not needed", email()),
)


def installed() -> dict[str, Check]:
    """Every installed check by its name."""
    return {check.name: check for step in Step for check in checks_of(step)}


@pytest.mark.parametrize(
    "example", EXAMPLES, ids=[f"{each.check}-{each.title}" for each in EXAMPLES]
)
def test_a_check_speaks_against_what_it_is_for(example: Example) -> None:
    assert installed()[example.check].rule(example.candidate, NOW) is example.speaks


def test_every_installed_check_has_examples_of_both_kinds() -> None:
    for speaks in (True, False):
        assert {each.check for each in EXAMPLES if each.speaks is speaks} == set(installed())


texts = st.sampled_from([None, "", "x"])
dates = st.sampled_from([None, "", "soon", "2020-01-31", "2026-11-24", "2099-12-31"])
counts = st.integers(min_value=0, max_value=4)
flags = st.booleans()

customers = st.builds(
    Customer,
    number=st.just(0),
    customer_id=st.just("c"),
    email=texts,
    mobile_e164=texts,
    loyalty_member=flags,
    unsubscribed_email=flags,
    unsubscribed_sms=flags,
    ndnc=flags,
    hard_bounces=counts,
    soft_bounces=counts,
    last_store=texts,
    profile=texts,
    coupon_id=texts,
    coupon_expires=dates,
    coupon_redeemed=flags,
    custom=st.sampled_from(["{}", '{"tag:a":"x"}', '{"field:a":"x"}']),
)

needs = st.lists(
    st.sampled_from(["coupon", "membership", "last_store", "profile", "tag:a", "field:a"]),
    unique=True,
    max_size=3,
)

campaigns = st.builds(
    lambda channel, requires, enabled, hard, soft: replace(
        SPRING,
        channel=channel,
        requires=tuple(requires),
        organization=replace(ACME, enabled=enabled, hard_bounce_limit=hard, soft_bounce_limit=soft),
    ),
    st.sampled_from(Channel),
    needs,
    st.sampled_from([True, True, True, False]),
    st.integers(1, 5),
    st.integers(1, 5),
)

batches = st.lists(st.builds(Candidate, customers, campaigns), min_size=1, max_size=12).map(
    lambda batch: [
        each._replace(customer=each.customer._replace(number=number))
        for number, each in enumerate(batch)
    ]
)

judging_steps = pytest.mark.parametrize("step", [Step.SUPPRESS, Step.VALIDATE])


@judging_steps
@given(batch=batches)
def test_the_first_reason_that_speaks_is_the_only_verdict(
    step: Step, batch: list[Candidate]
) -> None:
    checks = checks_of(step)
    verdicts = judge(batch, checks, NOW)

    given_reasons: dict[int, Reason] = {}
    for reason, numbers in verdicts.items():
        for number in numbers:
            assert number not in given_reasons, "a message has one reason"
            given_reasons[number] = reason
    for candidate in batch:
        speaking = [check.reason for check in checks if check.rule(candidate, NOW)]
        assert given_reasons.get(candidate.customer.number) == min(speaking, default=None)


@judging_steps
@given(batch=batches, data=st.data())
def test_a_verdict_does_not_depend_on_batch_mates(
    step: Step, batch: list[Candidate], data: st.DataObject
) -> None:
    together = judge(batch, checks_of(step), NOW)
    for candidate in batch:
        number = candidate.customer.number
        alone = judge([candidate], checks_of(step), NOW)
        assert alone == {reason: [number] for reason, all_ in together.items() if number in all_}
    shuffled = judge(data.draw(st.permutations(batch)), checks_of(step), NOW)
    assert {reason: sorted(numbers) for reason, numbers in shuffled.items()} == together


def test_every_entry_of_the_project_is_the_check_of_its_name() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    entries = project["entry-points"][GROUP]
    assert entries, "there are checks"
    for name, value in entries.items():
        module, _, attribute = value.partition(":")
        check = getattr(import_module(module), attribute)
        assert isinstance(check, Check)
        assert (name, name) == (check.reason.slug, check.name)
    assert set(entries) == set(installed()), "install the project anew, its entries have changed"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a package with a module ``extra`` of some source and with entries for checks."""

    def package(source: str, **entries: str) -> None:
        (tmp_path / "extra.py").write_text(source)
        metadata = tmp_path / "extra-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
        lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in entries.items())]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("extra", None)
        checks_of.cache_clear()

    yield package
    monkeypatch.undo()
    sys.modules.pop("extra", None)
    checks_of.cache_clear()


NIGHT = """\
from tracker.status import Reason
from workers.checks.base import check

@check(Reason.CONFIGURATION)
def night(candidate, now):
    return now.hour >= 23

@check(Reason.ORGANIZATION_DISABLED)
def another(candidate, now):
    return False
"""


def test_a_check_is_added_by_a_function_and_an_entry(install: Callable[..., None]) -> None:
    before = judge([email()], checks_of(Step.SUPPRESS), NOW)
    install(NIGHT, night="extra:night")
    after = judge([email()], checks_of(Step.SUPPRESS), NOW)
    assert (before, after) == ({}, {Reason.CONFIGURATION: [0]})
    assert "night" not in [check.name for check in checks_of(Step.VALIDATE)]


def test_checks_are_asked_in_the_order_of_their_reasons(install: Callable[..., None]) -> None:
    install(NIGHT, night="extra:night", another="extra:another")
    asked = [(check.reason, check.name) for check in checks_of(Step.SUPPRESS)]
    assert asked[:4] == [
        (Reason.ORGANIZATION_DISABLED, "another"),
        (Reason.ORGANIZATION_DISABLED, "organization_disabled"),
        (Reason.CONFIGURATION, "night"),
        (Reason.UNSUBSCRIBED, "unsubscribed"),
    ]
    for step in Step:
        reasons = [check.reason for check in checks_of(step)]
        assert reasons == sorted(reasons)
        assert all(reason.step is step for reason in reasons)


@pytest.mark.parametrize(
    ("value", "source"),
    [
        pytest.param("no_such_module:check", "", id="no such module"),
        pytest.param("extra:no_such_check", "", id="no such function"),
        pytest.param("extra:plain", "def plain(candidate, now): return True", id="not decorated"),
        pytest.param("extra:CHECKS", "CHECKS = 3", id="no function"),
        pytest.param("extra:check", "def check(:", id="syntax error"),
        pytest.param("extra:check", "raise ValueError('no file')", id="fails on import"),
    ],
)
def test_an_entry_that_is_no_check_is_named(
    install: Callable[..., None], value: str, source: str
) -> None:
    install(source, broken=value)
    with pytest.raises(UsageError) as caught:
        checks_of(Step.SUPPRESS)
    assert "broken" in str(caught.value)
    assert value in str(caught.value)
