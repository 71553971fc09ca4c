"""Define checks, and find the installed ones.

A check is a pure function of a candidate and the time. It returns True to block the message, or
Defer to have it judged again later. Its decorator names the reason that it gives, its step, and its
position in the step. The first check that blocks a message gives the message its reason.

    @check(Reason.NDNC, step=Step.SUPPRESS, order=40)
    def ndnc(candidate: Candidate, now: datetime) -> bool:
        "Block SMS to customers on the National Do Not Call list."
        return candidate.campaign.channel is Channel.SMS and candidate.subscription.ndnc

A distribution installs a check with an entry in the entry-point group `sendtrace.checks`.
"""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache, wraps
from importlib.metadata import EntryPoint
from reprlib import repr as shorten
from typing import NamedTuple

from tracker.errors import SendtraceError, UsageError
from tracker.queries.next_step import CHECK_STEPS
from tracker.record.catalog import Campaign
from tracker.status import Reason, Step
from tracker.text import join_with_or, suggest_similar
from workers.candidates import Candidate, SuspectCondition
from workers.checks.sources import SourceData, SourceLoader
from workers.plugins import (
    PluginGroup,
    describe_plugin,
    find_plugins,
    import_plugin,
    is_third_party,
    require_parameters,
)


@dataclass(frozen=True)
class Defer:
    """A verdict: the message waits, and is judged again at the time `until`, which is aware."""

    until: datetime


class InvalidVerdict(SendtraceError):
    """A rule returned neither True nor False, nor a time at which to judge the message again."""


Rule = Callable[..., bool | Defer]
"""A function that returns True to block the message.

Its arguments are (candidate, now), or (candidate, now, data) with a source.

The time is aware, in the time zone of the settings.
"""

FindSuspects = Callable[[Campaign], SuspectCondition]
"""A function of a campaign that finds the suspects of a rule: customers whom it may block.

It returns a condition on the table `customers`, True for all customers, or False for none. A
condition that is NULL for a customer doesn't hold.
"""

DescribeBlock = Callable[[Candidate], str | None]
"""A function that returns a text to record beside the reason of a blocked message, or None."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A rule with the reason that it gives and its position; lower orders run first in a step.

    Attributes:
        detail: describes a message that the rule blocked.
        again_at_dispatch: whether the rule judges messages again when they are dispatched.
        source: loads what the rule knows of a whole batch of customers.
        suspects: finds the customers whom the rule may block; None for everybody.
    """

    reason: Reason
    step: Step
    order: int
    rule: Rule
    detail: DescribeBlock | None = None
    again_at_dispatch: bool = False
    source: SourceLoader | None = None
    suspects: FindSuspects | None = None

    def __call__(self, candidate: Candidate, now: datetime) -> bool | Defer:
        """Call the rule with the values that its step has of a candidate.

        Raises:
            InvalidVerdict: the rule returned something other than a verdict.
        """
        narrowed = candidate.narrowed(self.step)
        verdict = self.bind([narrowed], is_last_try=True).rule(narrowed, now)
        if verdict is not True and verdict is not False:
            validate_deferral(self.rule, verdict, now)
        return verdict

    def bind(self, candidates: Sequence[Candidate], *, is_last_try: bool) -> "BoundCheck":
        """Return the check for the candidates of a batch.

        Its source is called when the first candidate needs it.
        """
        if self.source is None:
            return BoundCheck(self, self.rule)
        data, rule = SourceData(self.source, candidates, is_last_try=is_last_try), self.rule

        @wraps(rule)
        def judge(candidate: Candidate, now: datetime) -> bool | Defer:
            return rule(candidate, now, data.get(candidate.number))

        return BoundCheck(self, judge, data)

    @property
    def name(self) -> str:
        """The name of the decorated function."""
        return self.rule.__name__

    @property
    def is_evident(self) -> bool:
        """True if the check's reason says which check blocked a message.

        For each reason of a check step, sendtrace has a check of the same name. No other check may
        have that name.
        """
        return self.name == self.reason.slug and self.reason.step in CHECK_STEPS

    @property
    def summary(self) -> str:
        """The first line of the rule's docstring."""
        return _read_docstring(self.rule).splitlines()[0]

    @property
    def sort_key(self) -> tuple[int, int, str]:
        """The position among all checks. Equal positions are ordered by name."""
        return CHECK_STEPS.index(self.step), self.order, self.name


def validate_deferral(rule: Rule, verdict: object, now: datetime) -> datetime:
    """Return the time until which a rule defers a message; raise `InvalidVerdict` if it doesn't."""
    if not isinstance(verdict, Defer):
        raise InvalidVerdict(
            f"{rule.__name__} returned {shorten(verdict)}; expected True, False or Defer(until)"
        )
    until: object = verdict.until
    if not isinstance(until, datetime) or until.tzinfo is None or until <= now:
        raise InvalidVerdict(
            f"{rule.__name__} deferred until {until}; expected an aware time after {now}"
        )
    return until


class BoundCheck(NamedTuple):
    """A check for the candidates of a batch.

    Attributes:
        rule: the check's rule as a function (candidate, now).
        data: what its source knows of the candidates; None without a source.
    """

    check: Check
    rule: Rule
    data: SourceData | None = None


def check(
    reason: Reason | str,
    *,
    step: Step | str,
    order: int,
    detail: DescribeBlock | None = None,
    again_at_dispatch: bool = False,
    source: SourceLoader | None = None,
    suspects: FindSuspects | None = None,
) -> Callable[[Rule], Check]:
    """Turn a rule into a check.

    Args:
        reason: the reason that the rule gives, or its slug.
        step: the step in which the rule runs.
        order: its position; the shipped checks have the orders 10, 20, 30 and so on in their step.
        detail: returns a text for a candidate that the rule blocked, which is recorded with it.
        again_at_dispatch: also call the rule when messages that it let pass are dispatched.
        source: called once a batch with the campaign and its customers. It returns a mapping by
            customer number; the rule takes the customer's value, or None, as a third argument.
        suspects: a function of the campaign that returns whom the rule may block: a condition on
            the table `customers`, True for everybody, or False for nobody. The default is
            everybody. Customers whom a service names, customers with recent messages in an
            organization that limits them, and duplicates are judged in any case.

    Raises:
        UsageError: the reason or the step is unknown, the order is not an integer, or the decorated
            object is not a plain function of these arguments with a docstring.
    """

    def decorate(rule: Rule) -> Check:
        try:
            return Check(
                reason=_parse_reason(reason),
                step=parse_check_step(step),
                order=_validate_order(order),
                rule=_validate_rule(rule, source, suspects),
                detail=detail,
                again_at_dispatch=again_at_dispatch,
                source=source,
                suspects=suspects,
            )
        except UsageError as error:
            name = rule.__name__ if inspect.isfunction(rule) else repr(rule)
            raise UsageError(f"check {name}: {error}") from None

    return decorate


def _parse_reason(reason: Reason | str) -> Reason:
    if isinstance(reason, Reason):
        return reason
    by_slug = {member.slug: member for member in Reason}
    if reason not in by_slug:
        raise UsageError(f"unknown reason {reason!r}{suggest_similar(str(reason), [*by_slug])}")
    return by_slug[reason]


def parse_check_step(step: Step | str) -> Step:
    """Return the step of a name; raise `UsageError` if it runs no checks."""
    if step not in CHECK_STEPS:
        raise UsageError(f"unknown step {str(step)!r}; expected {join_with_or(CHECK_STEPS)}")
    return Step(step)


def _validate_order(order: object) -> int:
    if not isinstance(order, int) or isinstance(order, bool):
        raise UsageError(f"order: got {order!r}; expected an integer, such as 35")
    return order


def _validate_rule(rule: Rule, source: SourceLoader | None, suspects: FindSuspects | None) -> Rule:
    if not inspect.isfunction(rule):
        raise UsageError(f"got {type(rule).__name__}; expected a function (candidate, now)")
    if source is not None:
        require_parameters(source, ("campaign", "customers"))
    if suspects is not None:
        require_parameters(suspects, ("campaign",))
    if inspect.iscoroutinefunction(rule):
        raise UsageError("got an async function; expected a plain def")
    if inspect.isgeneratorfunction(rule):
        raise UsageError("got a generator function; expected one that returns True or False")
    data = () if source is None else ("data",)
    require_parameters(rule, ("candidate", "now", *data))
    if not _read_docstring(rule):
        raise UsageError("missing docstring; expected one line that states the rule")
    return rule


def _read_docstring(rule: Rule) -> str:
    """Return a rule's docstring, from its source if Python dropped it (PYTHONOPTIMIZE=2)."""
    if rule.__doc__ is None and sys.flags.optimize >= 2:
        with suppress(OSError, SyntaxError):  # OSError: the module has no source file
            [definition] = ast.parse(textwrap.dedent(inspect.getsource(rule))).body
            if isinstance(definition, ast.FunctionDef):
                return (ast.get_docstring(definition) or "").strip()
        return rule.__name__
    return (rule.__doc__ or "").strip()


@cache
def all_checks() -> tuple[Check, ...]:
    """Return the installed checks in the order in which they run.

    Raises:
        UsageError: an entry point can't be loaded, is not a check, or has the name of another one.
    """
    entries: dict[str, EntryPoint] = {}
    checks: list[Check] = []
    for entry in find_plugins(PluginGroup.CHECKS):
        loaded = load_check(entry)
        if loaded.name in entries:
            raise UsageError(
                f"two checks are named {loaded.name}: {describe_plugin(entries[loaded.name])}"
                f" and {describe_plugin(entry)}"
            )
        entries[loaded.name] = entry
        checks.append(loaded)
    return sort_checks(checks)


@cache
def third_party_checks() -> tuple[Check, ...]:
    """Return the installed checks of distributions other than sendtrace, in their order."""
    entries = find_plugins(PluginGroup.CHECKS)
    return sort_checks(load_check(entry) for entry in entries if is_third_party(entry))


def shipped_check_names() -> frozenset[str]:
    """Return the names of the checks of sendtrace itself."""
    entries = find_plugins(PluginGroup.CHECKS)
    return frozenset(entry.name for entry in entries if not is_third_party(entry))


def checks_of(step: Step) -> tuple[Check, ...]:
    """Return the installed checks of a step in the order in which they run."""
    return tuple(check for check in all_checks() if check.step is step)


def checks_at_dispatch(checks: Iterable[Check], *, is_deferred: bool) -> list[Check]:
    """Return which checks judge a message again at dispatch: all of them if one deferred it."""
    return [check for check in checks if is_deferred or check.again_at_dispatch]


def sort_checks(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Return checks in the order in which they run."""
    return tuple(sorted(checks, key=lambda check: check.sort_key))


def load_check(entry: EntryPoint, *, source: str | None = None) -> Check:
    """Import the check that an entry point refers to; raise `UsageError` if that fails.

    `source` says in error messages where the reference comes from, if no distribution has it.
    """
    loaded = import_plugin(entry, source=source)
    if not isinstance(loaded, Check):
        raise UsageError(
            f"{source or describe_plugin(entry)}: got {type(loaded).__name__}; expected a function"
            " decorated with @check(REASON, step=STEP, order=NUMBER)"
        )
    return loaded
