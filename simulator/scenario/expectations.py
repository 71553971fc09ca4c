"""Expectations: conditions that a scenario sets on the messages that installed rules block.

The oracle doesn't model rules of other packages, so only their authors know what they should do.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulator.figures import Unit
from simulator.scenario.thresholds import RELATIONS, parse_expression
from simulator.values import format_value
from tracker.text import suggest_similar

BLOCKED_SUFFIX = ".blocked"

EXPECTATION_EXAMPLES = 'a range like "930..960" or a condition like "== 940"'

_RANGE_PATTERN = re.compile(r"\s*(\d[\d_]*)\s*\.\.\s*(\d[\d_]*)\s*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """A condition on the number of messages that a rule blocks.

    Attributes:
        key: the key in the file.
        rule: name of the rule.
        campaign: campaign whose messages count; None for those of all campaigns.
        conditions: relations, keys of `RELATIONS`, each with its limit; all of them must hold.
        expression: the condition as the scenario says it.
    """

    key: str
    rule: str
    campaign: str | None
    conditions: tuple[tuple[str, float], ...]
    expression: str

    def is_met_by(self, blocked: int) -> bool:
        """Return whether a number of blocked messages is as expected."""
        return all(RELATIONS[relation](blocked, limit) for relation, limit in self.conditions)


def parse_expectations(
    table: Mapping[str, str], campaigns: Sequence[str]
) -> tuple[Expectation, ...]:
    """Return the expectations of the table `[expect]`.

    Raises:
        ValueError: a key or a condition can't be parsed, or a campaign is unknown.
    """
    return tuple(_parse_expectation(key, text, campaigns) for key, text in table.items())


def _parse_expectation(key: str, text: str, campaigns: Sequence[str]) -> Expectation:
    where = f'expect."{key}"'
    subject = key.removesuffix(BLOCKED_SUFFIX)
    campaign, dot, rule = subject.rpartition(".")
    if subject == key or not rule.isidentifier():
        raise ValueError(
            f'{where}: unknown expectation; expected "RULE.blocked" or "CAMPAIGN.RULE.blocked"'
        )
    if dot and campaign not in campaigns:
        raise ValueError(
            f"{where}: unknown campaign {campaign!r}{suggest_similar(campaign, campaigns)}"
        )
    try:
        conditions = _parse_conditions(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return Expectation(
        key=key,
        rule=rule,
        campaign=campaign if dot else None,
        conditions=conditions,
        expression=" ".join(text.split()),
    )


def _parse_conditions(text: str) -> tuple[tuple[str, float], ...]:
    numbers = _RANGE_PATTERN.fullmatch(text)
    if numbers is None:
        try:
            return (parse_expression(text, Unit.MESSAGES),)
        except ValueError:
            got = format_value(text)
            raise ValueError(f"got {got}; expected {EXPECTATION_EXAMPLES}") from None
    lowest, highest = (int(number.replace("_", "")) for number in numbers.groups())
    if lowest > highest:
        raise ValueError(f"got {format_value(text)}; expected the lower number first")
    return ((">=", lowest), ("<=", highest))
