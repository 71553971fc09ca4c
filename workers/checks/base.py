"""What a check is, which checks there are, and how they judge.

A check is a pure function of a candidate and the time. It says whether it speaks against sending;
the first that speaks, in the order of :class:`tracker.status.Reason`, gives the message its reason.

    @check(Reason.NDNC)
    def ndnc(candidate: Candidate, now: datetime) -> bool:
        "The customer is on the National Do Not Call list (SMS)."
        return candidate.campaign.channel is Channel.SMS and candidate.customer.ndnc

An entry in the group ``sendtrace.checks`` of a package's entry points makes it take part.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from tracker.catalog import Campaign
from tracker.errors import UsageError
from tracker.status import Reason, Step

GROUP = "sendtrace.checks"


class Customer(NamedTuple):
    """A person as the record knows them: the columns of ``customers`` that checks may look at.

    ``mobile_e164`` is None where ``mobile`` is empty or not a possible number; ``custom`` is a
    JSON object whose keys are ``tag:NAME`` and ``field:NAME``.
    """

    number: int
    customer_id: str
    email: str | None = None
    mobile: str | None = None
    mobile_e164: str | None = None
    loyalty_member: bool = False
    unsubscribed_email: bool = False
    unsubscribed_sms: bool = False
    ndnc: bool = False
    hard_bounces: int = 0
    soft_bounces: int = 0
    last_store: str | None = None
    profile: str | None = None
    coupon_id: str | None = None
    coupon_expires: str | None = None
    coupon_redeemed: bool = False
    custom: str = "{}"


class Candidate(NamedTuple):
    """A message that may be sent: to whom, and for which campaign."""

    customer: Customer
    campaign: Campaign


Rule = Callable[[Candidate, datetime], bool]
"""True where it speaks against sending. The time is aware, in UTC."""


@dataclass(frozen=True)
class Check:
    """A rule with its reason and the step that asks it."""

    reason: Reason
    rule: Rule

    @property
    def name(self) -> str:
        return self.rule.__name__

    @property
    def step(self) -> Step:
        return self.reason.step


def check(reason: Reason) -> Callable[[Rule], Check]:
    """Make a rule the check that gives ``reason``, in the step and place that the reason has."""
    return lambda rule: Check(reason, rule)


@cache
def checks_of(step: Step) -> tuple[Check, ...]:
    """The installed checks of a step, in the order in which they are asked."""
    found = [_load(entry) for entry in entry_points(group=GROUP)]
    return tuple(
        sorted(
            (each for each in found if each.step is step),
            key=lambda each: (each.reason, each.name),
        )
    )


def _load(entry: EntryPoint) -> Check:
    try:
        loaded = entry.load()
    except Exception as error:  # whatever somebody's module does when it is imported
        raise UsageError(
            f"the check {entry.name} ({entry.value}) can't be loaded: {error}"
        ) from error
    if not isinstance(loaded, Check):
        raise UsageError(
            f"{entry.name} ({entry.value}) is no check; decorate the function with @check(REASON)"
        )
    return loaded


def judge(
    candidates: Iterable[Candidate], checks: Sequence[Check], now: datetime
) -> dict[Reason, list[int]]:
    """The numbers of the messages that may not be sent, by reason."""
    rules = [(each.reason, each.rule) for each in checks]
    stopped: defaultdict[Reason, list[int]] = defaultdict(list)
    for candidate in candidates:
        for reason, rule in rules:
            if rule(candidate, now):
                stopped[reason].append(candidate.customer.number)
                break
    return dict(stopped)
