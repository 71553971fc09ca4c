"""Changes of the rules that somebody wants to try: other settings, checks left out or added."""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from typing import Any

from tracker.errors import UsageError
from tracker.record.allowance import MAX_MESSAGE_LIMIT, MAX_MESSAGE_LIMIT_DAYS
from tracker.record.catalog import Campaign
from tracker.record.receipts import MAX_BOUNCE_LIMIT
from tracker.text import suggest_similar
from workers.candidates import validate_requirements
from workers.checks.base import Check, load_check, sort_checks
from workers.plugins import PluginGroup
from workers.rules.rejudge import Rules


def apply_rule_changes(
    rules: Rules, *, settings: Sequence[str], without: Sequence[str], extra: Sequence[str]
) -> Rules:
    """Other rules: ``settings`` like "message_limit.count=2", ``without`` names of checks, and
    ``extra`` like "module:function". :exc:`UsageError` where one of them makes no sense."""
    campaign = rules.campaign
    for each in settings:
        campaign = _apply_setting(campaign, each)
    names = [check.name for check in rules.checks]
    for name in without:
        if name not in names:
            raise UsageError(
                f"--without {name}: there is no such check{suggest_similar(name, names)}"
            )
    checks = {check.name: check for check in rules.checks if check.name not in without}
    for place in extra:
        added = _import_check(place)
        if added.name in checks:
            raise UsageError(
                f"--with {place}: there is a check {added.name} already; leave that out with"
                f" --without {added.name}"
            )
        checks[added.name] = added
    return Rules(campaign=campaign, checks=sort_checks(checks.values()))


def find_ineffective_settings(rules: Rules, settings: Sequence[str]) -> list[str]:
    """What was set, and changes nothing: a sentence each."""
    if rules.campaign.organization.message_limit is not None:
        return []
    return [
        f"--set {each} changes nothing: there is no message limit; add message_limit.count=N"
        for each in settings
        if each.startswith("message_limit.days=")
    ]


def _make_number_parser(most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        digits = text.isascii() and text.isdecimal() and len(text) <= len(str(most))
        if not (digits and 1 <= int(text) <= most):
            raise ValueError(f"expected a whole number from 1 to {most:,}")
        return int(text)

    return read


def _parse_boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


def _parse_requirements(text: str) -> tuple[str, ...]:
    return validate_requirements(each for each in text.split(",") if each)


CHANGEABLE_SETTINGS: Mapping[str, tuple[str, Any]] = {
    "enabled": ("organization.enabled", _parse_boolean),
    "message_limit.count": ("organization.message_limit", _make_number_parser(MAX_MESSAGE_LIMIT)),
    "message_limit.days": (
        "organization.message_limit_days",
        _make_number_parser(MAX_MESSAGE_LIMIT_DAYS),
    ),
    "hard_bounce_limit": ("organization.hard_bounce_limit", _make_number_parser(MAX_BOUNCE_LIMIT)),
    "soft_bounce_limit": ("organization.soft_bounce_limit", _make_number_parser(MAX_BOUNCE_LIMIT)),
    "sender": ("sender", str),
    "requires": ("requires", _parse_requirements),
}
"""What ``--set`` can change: where it stands, and how it is read."""


def _apply_setting(campaign: Campaign, text: str) -> Campaign:
    key, equals, value = text.partition("=")
    if key not in CHANGEABLE_SETTINGS:
        raise UsageError(
            f"--set {text}: unknown key {key!r}{suggest_similar(key, [*CHANGEABLE_SETTINGS])}"
        )
    if not equals:
        raise UsageError(f"--set {text}: expected {key}=VALUE")
    path, read = CHANGEABLE_SETTINGS[key]
    try:
        read_value = read(value)
    except ValueError as error:
        raise UsageError(f"--set {text}: {error}") from None
    part, _, name = path.rpartition(".")
    if not part:
        return replace(campaign, **{name: read_value})
    return replace(campaign, organization=replace(campaign.organization, **{name: read_value}))


def _import_check(place: str) -> Check:
    if re.fullmatch(r"[\w.]+:[\w.]+", place) is None:
        raise UsageError(f"--with {place}: expected MODULE:FUNCTION, as in acme_rules:left_alone")
    if os.getcwd() not in sys.path:  # as with python -m, also where a script started us
        sys.path.insert(0, os.getcwd())
    return load_check(EntryPoint(place, place, PluginGroup.CHECKS), source=f"--with {place}")
