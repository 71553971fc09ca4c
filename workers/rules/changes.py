"""Apply changes to rules for a trial: other settings, and checks left out or added."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import EntryPoint

from tracker.bounces import MAX_BOUNCE_LIMIT
from tracker.errors import UsageError
from tracker.organizations import Organization
from tracker.record.allowance import MAX_MESSAGE_LIMIT, MAX_MESSAGE_LIMIT_DAYS
from tracker.record.catalog import Campaign
from tracker.text import suggest_similar
from workers.checks.base import Check, load_check, sort_checks
from workers.checks.validation import validate_requirements
from workers.plugins import PluginGroup
from workers.rules.as_of import Rules


def apply_rule_changes(
    rules: Rules, *, settings: Sequence[str], without: Sequence[str], extra: Sequence[str]
) -> Rules:
    """Return rules with changed settings, such as "message_limit.count=2", and other checks.

    `without` has names, `extra` references such as "acme_rules:left_alone". A wrong one raises
    `UsageError` that names its option.
    """
    campaign = rules.campaign
    for setting in settings:
        campaign = _apply_setting(campaign, setting)
    names = [check.name for check in rules.checks]
    for name in without:
        if name not in names:
            raise UsageError(f"--without {name}: unknown check{suggest_similar(name, names)}")
    checks = {check.name: check for check in rules.checks if check.name not in without}
    for reference in extra:
        added = _import_check(reference)
        if added.name in checks:
            raise UsageError(
                f"--with {reference}: check {added.name} exists already; leave the other one out"
                f" with --without {added.name}"
            )
        checks[added.name] = added
    return Rules(campaign=campaign, checks=sort_checks(checks.values()))


def find_ineffective_settings(rules: Rules, settings: Sequence[str]) -> list[str]:
    """Return a sentence for each setting that has no effect on the changed rules."""
    if rules.campaign.organization.message_limit is not None:
        return []
    return [
        f"--set {setting} has no effect without a message limit; add --set message_limit.count=N"
        for setting in settings
        if setting.startswith("message_limit.days=")
    ]


def _parse_integer(text: str, maximum: int) -> int:
    is_short_number = text.isascii() and text.isdecimal() and len(text) <= len(str(maximum))
    if not (is_short_number and 1 <= int(text) <= maximum):
        raise ValueError(f"expected an integer from 1 to {maximum:,}")
    return int(text)


def _parse_boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


_ORGANIZATION_SETTINGS: Mapping[str, Callable[[Organization, str], Organization]] = {
    "enabled": lambda organization, text: replace(organization, enabled=_parse_boolean(text)),
    "message_limit.count": lambda organization, text: replace(
        organization, message_limit=_parse_integer(text, MAX_MESSAGE_LIMIT)
    ),
    "message_limit.days": lambda organization, text: replace(
        organization, message_limit_days=_parse_integer(text, MAX_MESSAGE_LIMIT_DAYS)
    ),
    "hard_bounce_limit": lambda organization, text: replace(
        organization, hard_bounce_limit=_parse_integer(text, MAX_BOUNCE_LIMIT)
    ),
    "soft_bounce_limit": lambda organization, text: replace(
        organization, soft_bounce_limit=_parse_integer(text, MAX_BOUNCE_LIMIT)
    ),
}

_CAMPAIGN_SETTINGS: Mapping[str, Callable[[Campaign, str], Campaign]] = {
    "sender": lambda campaign, text: replace(campaign, sender=text),
    "requires": lambda campaign, text: replace(
        campaign, requires=validate_requirements(filter(None, text.split(",")))
    ),
}

CHANGEABLE_SETTINGS = (*_ORGANIZATION_SETTINGS, *_CAMPAIGN_SETTINGS)


def _apply_setting(campaign: Campaign, setting: str) -> Campaign:
    key, equals, value = setting.partition("=")
    if key not in CHANGEABLE_SETTINGS:
        similar = suggest_similar(key, CHANGEABLE_SETTINGS)
        raise UsageError(f"--set {setting}: unknown key {key!r}{similar}")
    if not equals:
        raise UsageError(f"--set {setting}: missing value; expected {key}=VALUE")
    try:
        if key in _CAMPAIGN_SETTINGS:
            return _CAMPAIGN_SETTINGS[key](campaign, value)
        organization = _ORGANIZATION_SETTINGS[key](campaign.organization, value)
    except ValueError as error:
        raise UsageError(f"--set {setting}: {error}") from None
    return replace(campaign, organization=organization)


def _import_check(reference: str) -> Check:
    source = f"--with {reference}"
    if re.fullmatch(r"[\w.]+:[\w.]+", reference) is None:
        raise UsageError(f"{source}: expected MODULE:FUNCTION, such as acme_rules:left_alone")
    with _importing_from(os.getcwd()):
        return load_check(EntryPoint(reference, reference, PluginGroup.CHECKS), source=source)


@contextmanager
def _importing_from(folder: str) -> Iterator[None]:
    """Prefer the modules of a folder in the block, as `python -m` does.

    After the block, installed modules are preferred again: another project's `celery.py` must not
    replace a module that is yet to be imported.
    """
    if folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        sys.path.append(folder)
