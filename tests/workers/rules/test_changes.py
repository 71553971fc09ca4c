"""Changes to rules: settings, and checks left out or added."""

import sys
from pathlib import Path

import pytest

from tests.support.rules import THIS_MODULE
from tracker.errors import UsageError
from workers.checks.base import all_checks
from workers.rules.as_of import Rules
from workers.rules.changes import apply_rule_changes, find_ineffective_settings
from workers.rules.valid_candidate import VALID_CAMPAIGN

MAX_DAYS_ERROR = "expected an integer from 1 to 36,500"


@pytest.fixture
def rules() -> Rules:
    """Return all checks and a campaign that is not recorded."""
    return Rules(campaign=VALID_CAMPAIGN, checks=all_checks())


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        (["enabled=false"], "organization.enabled", False),
        (["message_limit.count=2"], "organization.message_limit", 2),
        (["message_limit.days=7"], "organization.message_limit_days", 7),
        (["hard_bounce_limit=2"], "organization.hard_bounce_limit", 2),
        (["soft_bounce_limit=9"], "organization.soft_bounce_limit", 9),
        (["sender=Acme = Co"], "sender", "Acme = Co"),
        (["requires=coupon,tag:city"], "requires", ("coupon", "tag:city")),
        (["requires="], "requires", ()),
    ],
)
def test_a_setting_changes_its_value(
    rules: Rules, settings: list[str], path: str, value: object
) -> None:
    campaign = apply_rule_changes(rules, settings=settings, without=[], extra=[]).campaign
    holder: object = campaign
    for name in path.split("."):
        holder = getattr(holder, name)
    assert holder == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"settings": ["message_limit=2"]},
            "unknown key 'message_limit'; did you mean message_lim",
        ),
        ({"settings": ["nope=1"]}, "unknown key 'nope'; expected one of enabled, message_limit.co"),
        (
            {"settings": ["message_limit.count"]},
            "missing value; expected message_limit.count=VALUE",
        ),
        ({"settings": ["message_limit.count=two"]}, "expected an integer from 1"),
        ({"settings": ["message_limit.count=0"]}, "expected an integer from 1"),
        ({"settings": ["message_limit.days=0"]}, f"days=0: {MAX_DAYS_ERROR}"),
        ({"settings": ["message_limit.days=99999999999"]}, MAX_DAYS_ERROR),
        ({"settings": [f"hard_bounce_limit={'9' * 5_000}"]}, "expected an integer from 1 to 1,000"),
        ({"settings": ["requires=coupon,bogus"]}, "unknown requirement 'bogus'; expected coupon"),
        ({"settings": ["enabled=perhaps"]}, "expected true or false"),
        ({"without": ["unsubscribe"]}, "unknown check; did you mean unsubscribed"),
        ({"without": ["zzz"]}, "unknown check; expected one of 20, such as"),
        ({"extra": ["nowhere"]}, "--with nowhere: expected MODULE:FUNCTION"),
        ({"extra": ["nowhere:at_all"]}, "--with nowhere:at_all: import failed"),
        ({"extra": [f"{THIS_MODULE}:NOT_A_CHECK"]}, "got str; expected a function decorated"),
        ({"extra": ["workers.checks.suppression:ndnc"]}, "check ndnc exists already"),
        ({"extra": [f"{THIS_MODULE}:fragile"] * 2}, "check fragile exists already"),
    ],
)
def test_a_wrong_change_is_an_error(
    rules: Rules, changes: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        apply_rule_changes(rules, **{"settings": [], "without": [], "extra": [], **changes})


def test_days_without_a_limit_have_no_effect(rules: Rules) -> None:
    def find_notes(*settings: str) -> list[str]:
        changed = apply_rule_changes(rules, settings=settings, without=[], extra=[])
        return find_ineffective_settings(changed, settings)

    [note] = find_notes("message_limit.days=7")
    assert "message_limit.days=7 has no effect" in note
    assert not find_notes("message_limit.days=7", "message_limit.count=2")
    assert not find_notes("enabled=true")


def test_a_module_in_the_current_folder_is_found(
    rules: Rules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "from_here.py").write_text(f"from {THIS_MODULE} import block_number_3 as rule\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    changed = apply_rule_changes(rules, settings=[], without=[], extra=["from_here:rule"])
    assert "block_number_3" in [check.name for check in changed.checks]
    assert sys.path[-1] == str(tmp_path), "installed modules come first from now on"
