"""What a check is, which checks there are, and how they judge.

A check is a pure function of a candidate and the time. It says whether it speaks against sending,
and names its reason, its step and its place there. The first that speaks gives the message its
reason.

    @check(Reason.NDNC, step=Step.SUPPRESS, order=40)
    def ndnc(candidate: Candidate, now: datetime) -> bool:
        "The customer is on the National Do Not Call list, and the campaign is an SMS."
        return candidate.campaign.channel is Channel.SMS and candidate.subscription.ndnc

An entry in the group ``sendtrace.checks`` of a package's entry points makes it take part.
"""

import inspect
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from reprlib import repr as shown

from tracker.errors import SendtraceError, UsageError
from tracker.status import Reason, Step
from tracker.text import join_with_or, suggest_similar
from workers.candidates import Candidate

CHECKS_GROUP = "sendtrace.checks"

CHECK_STEPS = (Step.SUPPRESS, Step.VALIDATE)
"""The steps that judge, in their order."""

FAILED_CHECK_REASON = Reason.TIMEOUT
"""The reason of a message on which a check gave no verdict: nobody knows whether it may be sent."""

Rule = Callable[[Candidate, datetime], bool]
"""True where it speaks against sending. The time is aware, in UTC."""


class InvalidVerdict(SendtraceError):
    """A rule said neither True nor False."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A rule, the reason that it gives, and when it is asked: lower orders first."""

    reason: Reason
    step: Step
    order: int
    rule: Rule

    @property
    def name(self) -> str:
        return self.rule.__name__

    @property
    def summary(self) -> str:
        """The first line of the rule's docstring."""
        return (self.rule.__doc__ or "").strip().splitlines()[0]

    @property
    def sort_key(self) -> tuple[int, int, str]:
        """Checks in this order are asked one after the other."""
        return CHECK_STEPS.index(self.step), self.order, self.name


def check(reason: Reason | str, *, step: Step | str, order: int) -> Callable[[Rule], Check]:
    """Make a rule a check: with ``reason`` (or its slug), in ``step``, at the place ``order``.

    The shipped checks stand at 10, 20, 30 … of their step. Raises :exc:`UsageError` where the
    reason or the step is none, the order is no whole number, or the rule can't be asked.
    """

    def decorate(rule: Rule) -> Check:
        try:
            return Check(
                reason=_parse_reason(reason),
                step=_parse_step(step),
                order=_validate_order(order),
                rule=_validate_rule(rule),
            )
        except UsageError as error:
            name = getattr(rule, "__name__", repr(rule))
            raise UsageError(f"check {name}: {error}") from None

    return decorate


def _parse_reason(told: Reason | str) -> Reason:
    if isinstance(told, Reason):
        return told
    known = {each.slug: each for each in Reason}
    if told not in known:
        raise UsageError(f"unknown reason {told!r}{suggest_similar(str(told), [*known])}")
    return known[told]


def _parse_step(told: Step | str) -> Step:
    if told not in CHECK_STEPS:
        raise UsageError(f"there is no step {str(told)!r}; expected {join_with_or(CHECK_STEPS)}")
    return Step(told)


def _validate_order(told: object) -> int:
    if not isinstance(told, int) or isinstance(told, bool):
        raise UsageError(f"the order {told!r} is no whole number; expected one like 35")
    return told


def _validate_rule(rule: Rule) -> Rule:
    if not inspect.isfunction(rule):
        raise UsageError("is no function; expected def NAME(candidate, now)")
    if inspect.iscoroutinefunction(rule):
        raise UsageError("is an async function, which nobody awaits; expected a plain def")
    if inspect.isgeneratorfunction(rule):
        raise UsageError("yields; expected a function that returns True or False")
    try:
        inspect.signature(rule).bind(None, None)
    except TypeError:
        taken = inspect.signature(rule)
        raise UsageError(f"takes {taken}; expected (candidate, now)") from None
    if not (rule.__doc__ or "").strip():
        raise UsageError("has no docstring; expected a line that says its rule")
    return rule


@cache
def _load_installed_checks() -> Mapping[str, tuple[EntryPoint, Check]]:
    found: dict[str, tuple[EntryPoint, Check]] = {}
    for entry in entry_points(group=CHECKS_GROUP):
        loaded = load_check(entry)
        other, _ = found.setdefault(loaded.name, (entry, loaded))
        if other is not entry:
            raise UsageError(
                f"two checks are called {loaded.name}: {other.value} and {entry.value}"
            )
    return found


def all_checks() -> tuple[Check, ...]:
    """The installed checks in the order in which they are asked.

    Raises :exc:`UsageError` that names the entry point where one can't be loaded, is no check, or
    has the name of another.
    """
    return sort_checks(check for _, check in _load_installed_checks().values())


def third_party_checks() -> tuple[Check, ...]:
    """Those of the installed checks that other packages brought."""
    return sort_checks(
        check
        for entry, check in _load_installed_checks().values()
        if entry.dist is not None and entry.dist.name != "sendtrace"
    )


def sort_checks(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Checks in the order in which they are asked."""
    return tuple(sorted(checks, key=lambda each: each.sort_key))


def checks_of(step: Step) -> tuple[Check, ...]:
    """The installed checks of a step, in the order in which they are asked."""
    return tuple(each for each in all_checks() if each.step is step)


def load_check(entry: EntryPoint, told: str | None = None) -> Check:
    """The check behind an entry point; :exc:`UsageError` if there is none, that names the entry or
    says how somebody ``told`` us of it."""
    told = told or f"the check {entry.name} ({entry.value})"
    try:
        loaded = entry.load()
    except (Exception, SystemExit) as error:  # whatever somebody's module does on import
        raise UsageError(f"{told} can't be loaded: {_describe_load_error(error)}") from error
    if not isinstance(loaded, Check):
        raise UsageError(
            f"{told} is no check; decorate the function with"
            " @check(REASON, step=STEP, order=NUMBER)"
        )
    return loaded


def _describe_load_error(error: BaseException) -> str:
    """What went wrong in somebody's module, also where the error itself says little."""
    match error:
        case UsageError():
            return str(error)
        case SystemExit():
            return f"it ends the program when it is imported, with sys.exit({error.code!r})"
        case AttributeError(name=str(name)) if error.obj is not None:
            known = [each for each in dir(error.obj) if not each.startswith("_")]
            where = getattr(error.obj, "__name__", type(error.obj).__name__)
            return f"{where} has no {name}{suggest_similar(name, known)}"
        case _:
            return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class Verdicts:
    """Whom the checks stopped: message numbers by reason. ``failure_counts`` counts, by check, the messages
    for which it gave no verdict, and ``errors`` has the first error of each."""

    blocked: dict[Reason, list[int]]
    failure_counts: Counter[str] = field(default_factory=Counter)
    errors: dict[str, BaseException] = field(default_factory=dict)


def judge(candidates: Iterable[Candidate], checks: Sequence[Check], now: datetime) -> Verdicts:
    """Ask the checks, in their order, about each candidate.

    A check that raises, or says what is no verdict, makes its message a system error, and stops
    nothing else.
    """
    rules = [(each.reason, each.rule) for each in checks]
    blocked: defaultdict[int, list[int]] = defaultdict(list)
    verdicts = Verdicts({})
    for candidate in candidates:
        try:
            for reason, rule in rules:
                said = rule(candidate, now)
                if said:
                    if said is not True:
                        raise InvalidVerdict(
                            f"{rule.__name__} returned {shown(said)}; expected True or False"
                        )
                    blocked[reason.value].append(candidate.customer.number)
                    break
        except (Exception, SystemExit) as error:  # somebody's rule may raise anything
            blocked[FAILED_CHECK_REASON.value].append(candidate.customer.number)
            verdicts.failure_counts[rule.__name__] += 1
            verdicts.errors.setdefault(rule.__name__, error)
    verdicts.blocked.update((Reason(code), numbers) for code, numbers in blocked.items())
    return verdicts
