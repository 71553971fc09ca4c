"""Recipients that force an outcome, and malformed addresses."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from simulator.forced import (
    FORCED_OUTCOME_DOMAIN,
    OUTCOME_BY_MOBILE,
    ForcedOutcome,
    find_forced_outcome,
    find_forced_outcomes,
)
from simulator.world.poison import REASON_BY_POISON
from tests.support.inline_runs import assert_passed, build_campaign, build_scenario, run_scenario
from tracker.status import Channel, Status
from tracker.store.database import Database
from tracker.store.schema.messages import transition_details
from workers.mobile import to_e164


@pytest.mark.parametrize("outcome", ForcedOutcome)
@pytest.mark.parametrize("tag", ["", "+7", "+a+b"])
def test_a_local_part_forces_an_outcome_at_the_reserved_domain_only(
    outcome: ForcedOutcome, tag: str
) -> None:
    name = outcome.local_part
    assert find_forced_outcome(Channel.EMAIL, f"{name}{tag}@{FORCED_OUTCOME_DOMAIN}") is outcome
    assert (
        find_forced_outcome(Channel.EMAIL, f"{name.title()}{tag}@{FORCED_OUTCOME_DOMAIN.upper()}")
        is outcome
    )
    assert find_forced_outcome(Channel.EMAIL, f"{name}{tag}@example.com") is None
    assert find_forced_outcome(Channel.EMAIL, f"x{name}{tag}@{FORCED_OUTCOME_DOMAIN}") is None


@pytest.mark.parametrize(
    "address",
    [
        "anna@example.com",
        "anna.smith+sale@mail.example.co.uk",
        "o'brien@example.com",
        "søren@example.dk",
        "anna@münchen.example",
        "1@2.example",
    ],
)
def test_well_formed_addresses_force_nothing(address: str) -> None:
    assert find_forced_outcome(Channel.EMAIL, address) is None


@pytest.mark.parametrize(
    "address",
    [
        "",
        "anna",
        "@example.com",
        "anna@",
        "anna@example",
        "anna@.com",
        "anna@example.",
        "anna@example..com",
        "anna@shop@example.com",
        "anna smith@example.com",
        "anna@exam ple.com",
        "anna@example.com\n",
        " anna@example.com",
    ],
)
def test_malformed_addresses_bounce(address: str) -> None:
    assert find_forced_outcome(Channel.EMAIL, address) is ForcedOutcome.MALFORMED


_NAMES = st.sampled_from([*(outcome.local_part for outcome in ForcedOutcome), "anna", "a.b+7"])
_DOMAINS = st.sampled_from([FORCED_OUTCOME_DOMAIN, "Simulator.example", "shop.example", "a-b.in"])
_ADDRESSES = st.one_of(
    st.builds("{}@{}".format, _NAMES, _DOMAINS),
    st.emails(),
    st.text(alphabet="a.@+\n -1é" + "x" * 3, max_size=80),
    st.builds("{}@{}".format, st.just("a" * 64), st.sampled_from(["b.in", "b" * 64 + ".in"])),
)


@given(recipients=st.lists(_ADDRESSES, max_size=8))
def test_addresses_that_are_parsed_together_force_the_same(recipients: list[str]) -> None:
    alone = [find_forced_outcome(Channel.EMAIL, recipient) for recipient in recipients]
    together = dict(find_forced_outcomes(Channel.EMAIL, recipients))
    assert [together.get(position) for position in range(len(recipients))] == alone


@pytest.mark.parametrize("number", ["+447700900000", "anna"])
def test_numbers_are_never_malformed(number: str) -> None:
    """The checks have blocked impossible numbers."""
    assert find_forced_outcome(Channel.SMS, number) is None


def test_messages_end_as_their_addresses_force_it(database: Database, tmp_path: Path) -> None:
    addresses = [
        f"{outcome.local_part}@{FORCED_OUTCOME_DOMAIN}"
        for outcome in ForcedOutcome
        if outcome not in REASON_BY_POISON
    ]
    (tmp_path / "people.csv").write_text(
        "customer_id,email\n" + "".join(f"{address},{address}\n" for address in addresses)
    )
    gateway = {
        "hard_bounce": 0.3,
        "soft_bounce": 0.3,
        "receipts": {"lost": 0.9, "late_bounce": 0.9},
    }
    scenario = build_scenario(
        build_campaign(audience="people.csv"),
        path=tmp_path / "test.toml",
        gateways={"email": gateway},
    )
    result = run_scenario(database, scenario, tmp_path)
    assert_passed(result)
    [report] = result.reports
    assert {
        status: report.count_messages(status) for status in Status if report.count_messages(status)
    } == {
        Status.HARD_BOUNCED: 2,
        Status.SOFT_BOUNCED: 1,
        Status.NOT_DELIVERED: 1,
        Status.IN_GATEWAY: 1,
        Status.DELIVERED: 5,
    }


def test_malformed_addresses_bounce_as_a_mail_server_would_say_it(
    database: Database, tmp_path: Path
) -> None:
    rows = ["anna@shop..example", "anna@shop.example", "bounce@simulator.example"]
    (tmp_path / "people.csv").write_text(
        "customer_id,email\n" + "".join(f"{row},{row}\n" for row in rows)
    )
    scenario = build_scenario(build_campaign(audience="people.csv"), path=tmp_path / "test.toml")
    assert_passed(run_scenario(database, scenario, tmp_path))
    details = transition_details.c
    with database.read() as connection:
        bounces = connection.execute(
            sa.select(details.number, details.detail).order_by(details.number)
        ).all()
    assert [number for number, _ in bounces] == [0, 2]
    assert bounces[0].detail == "5.1.3 invalid address"
    assert bounces[1].detail in ("5.1.1 unknown recipient", "5.1.2 unknown domain")


@pytest.mark.parametrize(("number", "outcome"), OUTCOME_BY_MOBILE.items())
def test_numbers_that_force_an_outcome_pass_the_checks(number: str, outcome: ForcedOutcome) -> None:
    assert to_e164(number) == number
    assert find_forced_outcome(Channel.SMS, number) is outcome
