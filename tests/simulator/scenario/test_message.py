"""Messages and titles in a scenario file: what is read, required, recorded and refused."""

import json
from pathlib import Path

import pytest

from simulator.scenario.file import Scenario, load_scenario
from simulator.setup.rebuild import load_run
from simulator.setup.record import record_run, start_run
from tests.support.scenarios import assert_error, read_refusal
from tracker.queries.report import make_reports
from tracker.status import Channel
from tracker.store.database import Database
from workers.message.source import MessageSource

TITLE = "Diwali — Festive Sale 2026 (SMS) दिवाली 🎉"


def write_scenario(folder: Path, campaign: str, tables: str = "") -> Path:
    """Write a scenario with one email campaign, and return its path."""
    path = folder / "sale.toml"
    path.write_text(
        f'name = "sale"\n{tables}\n[[campaigns]]\nname = "mail"\nchannel = "email"\n'
        f"audience = 5\n{campaign}\n"
    )
    return path


def load(folder: Path, campaign: str, tables: str = "") -> Scenario:
    """Load a scenario with one email campaign."""
    return load_scenario(write_scenario(folder, campaign, tables))


def test_the_variables_of_all_templates_are_required(tmp_path: Path) -> None:
    (tmp_path / "mail.html").write_text("<p>{{ coupon_id }} {{ last_store }}</p>\n")
    [plan] = load(
        tmp_path,
        'requires = ["membership", "last_store"]\n'
        "defects = { data_missing = 0.5, coupon_expired = 0.1 }\n"
        'message = { subject = "{{ field.city }}", html_file = "mail.html", size = "1.5KB" }',
    ).campaigns
    assert plan.requires == ("membership", "last_store", "coupon", "field:city")
    assert plan.audience.requires == plan.requires
    assert plan.coupon_series == "default"
    html = "<p>{{ coupon_id }} {{ last_store }}</p>\n"
    assert plan.message == MessageSource(subject="{{ field.city }}", html=html, size=1_500)


def test_the_address_to_unsubscribe_requires_data_too(tmp_path: Path) -> None:
    address = 'organization = { email = { unsubscribe_url = "https://s.internal/{{ field.k }}" } }'
    [plan] = load(tmp_path, "", address).campaigns
    assert plan.requires == ("field:k",)


def test_a_run_is_rebuilt_without_the_files_of_its_templates(
    database: Database, tmp_path: Path
) -> None:
    (tmp_path / "mail.txt").write_text("Hello {{ profile }}")
    scenario = load(tmp_path, f'title = "{TITLE}"\nmessage = {{ text_file = "mail.txt" }}')
    assert tmp_path / "mail.txt" in scenario.source_files
    run = start_run(database, record_run(database, scenario, tmp_path, lambda _: None))
    (tmp_path / "mail.txt").unlink()
    with database.read() as connection:
        rebuilt = load_run(connection, run.id)
    [campaign] = rebuilt.campaigns
    assert campaign.plan == run.campaigns[0].plan
    assert json.loads(campaign.campaign.message) == {"text": "Hello {{ profile }}"}
    assert campaign.campaign.title == TITLE


def test_titles_are_recorded(database: Database, tmp_path: Path) -> None:
    scenario = load(
        tmp_path,
        f'title = "{TITLE}"',
        'organization = { name = "acme", title = "ACME — दुकान" }',
    )
    run = record_run(database, scenario, tmp_path, lambda _: None)
    with database.read() as connection:
        [report] = make_reports(connection, run.recorded_campaigns)
    values = report.as_json()
    assert (values["campaign"], values["title"]) == ("mail", TITLE)
    assert (values["organization_title"], values["audience_title"]) == ("ACME — दुकान", None)


@pytest.mark.parametrize(
    "audience", ['{ customers = 3, title = "Köln" }', '{ file = "people.csv", title = "Köln" }']
)
def test_an_audience_has_a_title(database: Database, tmp_path: Path, audience: str) -> None:
    (tmp_path / "people.csv").write_text("customer_id,email\nc1,a@b.example\n")
    path = write_scenario(tmp_path, "")
    path.write_text(path.read_text().replace("audience = 5", f"audience = {audience}"))
    run = record_run(database, load_scenario(path), tmp_path, lambda _: None)
    with database.read() as connection:
        [report] = make_reports(connection, run.recorded_campaigns)
    assert report.audience_title == "Köln"


@pytest.mark.parametrize(
    ("campaign", "key", "expected"),
    [
        ('message = { text = "{{ cuopon_id }}" }', "campaigns[0].message.text", "unknown variable"),
        ('message = { html = "{{ 1 / 0 }}" }', "campaigns[0].message.html", "ZeroDivisionError"),
        ('message = { text = "{% if" }', "campaigns[0].message.text", "line 1"),
        ('message = { txt = "x" }', "campaigns[0].message.txt", "did you mean text"),
        ('message = { text_file = "no.txt" }', "campaigns[0].message.text_file", "can't be read"),
        ('message = { text_file = "." }', "campaigns[0].message.text_file", "not a regular file"),
        (
            'message = { text_file = "large.txt" }',
            "campaigns[0].message.text_file",
            "more than 1,000,000 bytes",
        ),
        (
            'message = { text = "x", text_file = "no.txt" }',
            "campaigns[0].message.text_file",
            "expected one of them",
        ),
        ('message = { size = "40 apples" }', "campaigns[0].message.size", 'a size like "40KB"'),
        ('message = { size = "26MB" }', "campaigns[0].message.size", "up to 25MB"),
        ("defects = { data_missing = 0.1 }", "campaigns[0].defects.data_missing", "in requires"),
        ('title = "two\\nlines"', "campaigns[0].title", "one line"),
        ('title = "\\u202Eevil"', "campaigns[0].title", "without control characters"),
        ('title = " "', "campaigns[0].title", "one line"),
    ],
)
def test_a_wrong_message_or_title_is_refused_with_its_key(
    tmp_path: Path, campaign: str, key: str, expected: str
) -> None:
    (tmp_path / "large.txt").write_bytes(1_000_001 * b"x")
    path = write_scenario(tmp_path, campaign)
    assert_error(read_refusal(path), path, key, expected)


def test_the_mark_of_utf_8_is_no_part_of_a_template(tmp_path: Path) -> None:
    (tmp_path / "mail.txt").write_text("Hello", encoding="utf-8-sig")
    [plan] = load(tmp_path, 'message = { text_file = "mail.txt" }').campaigns
    assert plan.message.text == "Hello"


def test_failures_of_services_need_a_campaign_with_simulated_services(tmp_path: Path) -> None:
    path = write_scenario(tmp_path, 'services = "sql"', "services.coupon.error_rate = 0.1")
    assert_error(read_refusal(path), path, "services.coupon", "no campaign uses it")


@pytest.mark.parametrize(
    ("settings", "key", "expected"),
    [
        ('unsubscribe_url = "ftp://s.internal"', "unsubscribe_url", "https://"),
        ('unsubscribe_url = "https://s.internal/a b"', "unsubscribe_url", "expected no spaces"),
        ('unsubscribe_url = "https://s.internal/<"', "unsubscribe_url", "https://"),
        ('unsubscribe_url = "https://s.internal/{{ x }}"', "unsubscribe_url", "unknown variable"),
        ('unsubscribe_email = "a\\r\\nb@s.internal"', "unsubscribe_email", "an email address"),
        ('unsubscribe_email = "a..b@s.internal"', "unsubscribe_email", "an email address"),
        ('unsubscribe_email = "ö@s.internal"', "unsubscribe_email", "an email address in ASCII"),
    ],
)
def test_a_wrong_way_to_unsubscribe_is_refused(
    tmp_path: Path, settings: str, key: str, expected: str
) -> None:
    path = write_scenario(tmp_path, "", f"organization = {{ email = {{ {settings} }} }}")
    assert_error(read_refusal(path), path, f"organization.email.{key}", expected)


def test_an_sms_has_only_text(tmp_path: Path) -> None:
    path = write_scenario(tmp_path, 'message = { text = "x", subject = "y" }')
    path.write_text(path.read_text().replace('"email"', f'"{Channel.SMS}"'))
    assert_error(read_refusal(path), path, "campaigns[0].message.subject", "only allowed with")


@pytest.mark.parametrize(
    ("credit", "key", "expected"),
    [
        ("{ email = -1 }", "organization.credit.email", "at least 0"),
        ("{ fax = 1 }", "organization.credit.fax", "unknown key"),
        ("{}", "organization.credit", "expected an integer"),
        ("true", "organization.credit", "expected an integer"),
    ],
)
def test_wrong_credit_is_refused(tmp_path: Path, credit: str, key: str, expected: str) -> None:
    path = write_scenario(tmp_path, "", f"organization = {{ credit = {credit} }}")
    assert_error(read_refusal(path), path, key, expected)
