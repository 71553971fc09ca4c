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

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from tracker.errors import UsageError
from tracker.status import Reason, Step
from workers.candidates import Candidate

GROUP = "sendtrace.checks"

STEPS = (Step.SUPPRESS, Step.VALIDATE)
"""The steps that judge, in their order."""

BROKEN = Reason.TIMEOUT
"""The reason of a message for which a check raised: it can't be said whether it may be sent."""

Rule = Callable[[Candidate, datetime], bool]
"""True where it speaks against sending. The time is aware, in UTC."""


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
    def rank(self) -> tuple[int, int, str]:
        """Checks in this order are asked one after the other."""
        return STEPS.index(self.step), self.order, self.name


def check(reason: Reason | str, *, step: Step | str, order: int) -> Callable[[Rule], Check]:
    """Make a rule a check: with ``reason`` (or its slug), in ``step``, at the place ``order``.

    The shipped checks stand at 10, 20, 30 … of their step. Raises :exc:`UsageError` where the
    reason or the step is none, or the rule has no docstring.
    """

    def decorate(rule: Rule) -> Check:
        name = rule.__name__
        known = {each.slug: each for each in Reason}
        if not isinstance(reason, Reason) and reason not in known:
            raise UsageError(f"check {name}: unknown reason {reason!r}{_near(reason, known)}")
        if step not in STEPS:
            raise UsageError(f"check {name}: there is no step {str(step)!r}; expected {_or(STEPS)}")
        if not (rule.__doc__ or "").strip():
            raise UsageError(f"check {name}: has no docstring; expected a line that says its rule")
        return Check(
            reason=reason if isinstance(reason, Reason) else known[reason],
            step=Step(step),
            order=order,
            rule=rule,
        )

    return decorate


def _near(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, known, n=3)
    return f"; did you mean {_or(near)}?" if near else f"; expected {_or(known)}"


def _or(words: Iterable[str]) -> str:
    return " or ".join(map(str, words))


@cache
def _installed() -> Mapping[str, tuple[EntryPoint, Check]]:
    found: dict[str, tuple[EntryPoint, Check]] = {}
    for entry in entry_points(group=GROUP):
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
    return in_order(check for _, check in _installed().values())


def foreign_checks() -> tuple[Check, ...]:
    """Those of the installed checks that other packages brought."""
    return in_order(
        check
        for entry, check in _installed().values()
        if entry.dist is not None and entry.dist.name != "sendtrace"
    )


def in_order(checks: Iterable[Check]) -> tuple[Check, ...]:
    """Checks in the order in which they are asked."""
    return tuple(sorted(checks, key=lambda each: each.rank))


def checks_of(step: Step) -> tuple[Check, ...]:
    """The installed checks of a step, in the order in which they are asked."""
    return tuple(each for each in all_checks() if each.step is step)


def load_check(entry: EntryPoint) -> Check:
    """The check behind an entry point; :exc:`UsageError` that names it, if there is none."""
    try:
        loaded = entry.load()
    except Exception as error:  # whatever somebody's module does when it is imported
        raise UsageError(
            f"the check {entry.name} ({entry.value}) can't be loaded: {error}"
        ) from error
    if not isinstance(loaded, Check):
        raise UsageError(
            f"{entry.name} ({entry.value}) is no check; decorate the function with"
            " @check(REASON, step=STEP, order=NUMBER)"
        )
    return loaded


@dataclass(frozen=True)
class Verdicts:
    """Whom the checks stopped: message numbers by reason. ``broken`` counts, by check, the messages
    for which it raised, and ``errors`` has the first error of each."""

    stopped: dict[Reason, list[int]]
    broken: Counter[str] = field(default_factory=Counter)
    errors: dict[str, Exception] = field(default_factory=dict)


def judge(candidates: Iterable[Candidate], checks: Sequence[Check], now: datetime) -> Verdicts:
    """Ask the checks, in their order, about each candidate.

    A check that raises makes its message a system error, and stops nothing else.
    """
    rules = [(each.reason, each.rule) for each in checks]
    stopped: defaultdict[int, list[int]] = defaultdict(list)
    verdicts = Verdicts({})
    for candidate in candidates:
        try:
            for reason, rule in rules:
                if rule(candidate, now):
                    stopped[reason.value].append(candidate.customer.number)
                    break
        except Exception as error:  # somebody's rule may raise anything
            stopped[BROKEN.value].append(candidate.customer.number)
            verdicts.broken[rule.__name__] += 1
            verdicts.errors.setdefault(rule.__name__, error)
    verdicts.stopped.update((Reason(code), numbers) for code, numbers in stopped.items())
    return verdicts
