"""Recipients that force an outcome, and addresses that are none."""

from pathlib import Path

import pytest

from simulator.world.forced import (
    FORCED_OUTCOME_DOMAIN,
    OUTCOME_BY_MOBILE,
    POISON_OUTCOMES,
    ForcedOutcome,
    find_forced_outcome,
)
from tests.support.playing import assert_passed, campaign_of, play, scenario_of
from tracker.status import Channel, Status
from tracker.store.database import Database
from workers.checks.mobile import to_e164


@pytest.mark.parametrize("magic", ForcedOutcome)
@pytest.mark.parametrize("tag", ["", "+7", "+a+b"])
def test_a_name_forces_an_outcome_at_the_reserved_domain_only(
    magic: ForcedOutcome, tag: str
) -> None:
    name = magic.local_part
    assert find_forced_outcome(Channel.EMAIL, f"{name}{tag}@{FORCED_OUTCOME_DOMAIN}") is magic
    assert (
        find_forced_outcome(Channel.EMAIL, f"{name.title()}{tag}@{FORCED_OUTCOME_DOMAIN.upper()}")
        is magic
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
        "1@2.3",
    ],
)
def test_good_addresses(address: str) -> None:
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
def test_malformed_addresses(address: str) -> None:
    assert find_forced_outcome(Channel.EMAIL, address) is ForcedOutcome.BOUNCE


@pytest.mark.parametrize("number", ["+447700900000", "anna"])
def test_numbers_are_never_malformed(number: str) -> None:
    """What is no possible number was stopped by the checks."""
    assert find_forced_outcome(Channel.SMS, number) is None


def test_magic_recipients_end_as_their_address_says(database: Database, tmp_path: Path) -> None:
    addresses = [
        f"{magic.local_part}@{FORCED_OUTCOME_DOMAIN}"
        for magic in ForcedOutcome
        if magic not in POISON_OUTCOMES
    ]
    (tmp_path / "people.csv").write_text(
        "customer_id,email\n" + "".join(f"{each},{each}\n" for each in addresses)
    )
    gateway = {
        "hard_bounce": 0.3,
        "soft_bounce": 0.3,
        "receipts": {"lost": 0.9, "late_bounce": 0.9},
    }
    scenario = scenario_of(
        campaign_of(audience="people.csv"),
        path=tmp_path / "magic.toml",
        gateways={"email": gateway},
    )
    result = play(database, scenario, tmp_path)
    assert_passed(result)
    [report] = result.reports
    assert {
        status: report.count_messages(status) for status in Status if report.count_messages(status)
    } == {
        Status.HARD_BOUNCED: 1,
        Status.SOFT_BOUNCED: 1,
        Status.NOT_DELIVERED: 1,
        Status.IN_GATEWAY: 1,
        Status.DELIVERED: 5,
    }


@pytest.mark.parametrize(("number", "magic"), OUTCOME_BY_MOBILE.items())
def test_magic_numbers_are_possible_ones(number: str, magic: ForcedOutcome) -> None:
    """Else the checks would stop them before the gateway sees them."""
    assert to_e164(number) == number
    assert find_forced_outcome(Channel.SMS, number) is magic
