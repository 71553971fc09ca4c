"""Adding a check: the decorator, the entry point, and the errors of invalid checks."""

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints
from reprlib import repr as shorten
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.factory import SPRING
from tests.support.paths import PYPROJECT
from tracker.errors import UsageError
from tracker.queries.next_step import CHECK_STEPS
from tracker.status import Reason, Step
from workers import app
from workers.candidates import Candidate, Customer
from workers.checks.base import Check, all_checks, check, checks_of, third_party_checks
from workers.checks.judging import FAILED_CHECK_REASON, judge_candidates
from workers.plugins import PluginGroup
from workers.rules.as_of import list_verdicts
from workers.services.base import Subscription

NIGHT = datetime.fromisoformat("2026-11-24T23:59:00+00:00")

VALID_CANDIDATE = Candidate(Customer(0, "c0", email="anna@example.com"), SPRING, Subscription())


def undocumented(candidate: Candidate, now: datetime) -> bool:
    return False


def rule(candidate: Candidate, now: datetime) -> bool:
    """Block no message.

    The summary leaves this line out.
    """
    return False


async def asynchronous(candidate: Candidate, now: datetime) -> bool:
    """Return a coroutine, which is true."""
    return False


def generator(candidate: Candidate, now: datetime) -> Iterator[bool]:
    """Return a generator, which is true."""
    yield False


def one_parameter(now: datetime) -> bool:
    """Take no candidate."""
    return False


def test_a_check_has_its_text_where_python_drops_docstrings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [name for name in dir(sys.flags) if not name.startswith("_")]
    flags = {name: getattr(sys.flags, name) for name in names} | {"optimize": 2}
    monkeypatch.setattr(sys, "flags", SimpleNamespace(**flags))
    monkeypatch.setattr(rule, "__doc__", None)
    made = check(Reason.NDNC, step=Step.SUPPRESS, order=45)(rule)
    assert made.summary == "Block no message."
    with pytest.raises(UsageError, match="missing docstring"):
        check(Reason.NDNC, step=Step.SUPPRESS, order=45)(undocumented)
    compiled: dict[str, Any] = {"__name__": "compiled"}
    exec("def without_source(candidate, now): return False", compiled)  # noqa: S102
    made = check(Reason.NDNC, step=Step.SUPPRESS, order=45)(compiled["without_source"])
    assert made.summary == "without_source"


def test_every_entry_point_of_the_project_is_a_check_of_its_name() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    entries = project["entry-points"][PluginGroup.CHECKS]
    assert entries, "the project has entry points for checks"
    for name, value in entries.items():
        module, _, attribute = value.partition(":")
        check = getattr(import_module(module), attribute)
        assert isinstance(check, Check)
        assert (name, name) == (check.reason.slug, check.name)
    installed = {check.name for check in all_checks()}
    assert set(entries) == installed, "the entry points have changed; install the project again"
    assert third_party_checks() == ()


def test_checks_run_in_the_order_of_their_reasons() -> None:
    sort_keys = [check.sort_key for check in all_checks()]
    assert sort_keys == sorted(sort_keys)
    for step in CHECK_STEPS:
        checks = checks_of(step)
        assert [check.order for check in checks] == [*range(10, 10 * len(checks) + 1, 10)]
        assert [check.reason for check in checks] == sorted(check.reason for check in checks)
        assert {check.reason.step for check in checks} - {step} <= {Step.DISPATCH}
        assert all(check.summary.startswith("Block ") for check in checks)
        assert all(check.summary.endswith(".") for check in checks)


@pytest.mark.parametrize("reason", ["ndnc", Reason.NDNC])
@pytest.mark.parametrize("step", ["suppress", Step.SUPPRESS])
def test_the_decorator_makes_a_check(reason: Reason | str, step: Step | str) -> None:
    made = check(reason, step=step, order=45)(rule)
    assert made == Check(reason=Reason.NDNC, step=Step.SUPPRESS, order=45, rule=rule)
    assert (made.name, made.summary) == ("rule", "Block no message.")


@pytest.mark.parametrize(
    ("reason", "step", "decorated", "message"),
    [
        pytest.param(
            "unsubscibed",
            "suppress",
            rule,
            "check rule: unknown reason 'unsubscibed'; did you mean unsubscribed?",
            id="misspelled reason",
        ),
        pytest.param(
            "zzz",
            "suppress",
            rule,
            "'zzz'; expected one of 27, such as organization_disabled, configuration or",
            id="unknown reason",
        ),
        pytest.param(
            Reason.NDNC,
            "supress",
            rule,
            "check rule: unknown step 'supress'; expected suppress or validate",
            id="unknown step",
        ),
        pytest.param(
            Reason.NDNC,
            Step.DISPATCH,
            rule,
            "check rule: unknown step 'dispatch'; expected suppress or validate",
            id="step without checks",
        ),
        pytest.param(
            Reason.NDNC,
            "suppress",
            undocumented,
            "check undocumented: missing docstring; expected one line that states the rule",
            id="no docstring",
        ),
        pytest.param(
            Reason.NDNC,
            "suppress",
            asynchronous,
            "check asynchronous: got an async function; expected a plain def",
            id="async",
        ),
        pytest.param(
            Reason.NDNC,
            "suppress",
            generator,
            "check generator: got a generator function; expected one that returns True or False",
            id="generator",
        ),
        pytest.param(
            Reason.NDNC,
            "suppress",
            one_parameter,
            "check one_parameter: got signature (now: datetime.datetime) -> bool;"
            " expected (candidate, now)",
            id="one parameter",
        ),
        pytest.param(
            Reason.NDNC,
            "suppress",
            3,
            "check 3: got int; expected a function (candidate, now)",
            id="not a function",
        ),
    ],
)
def test_the_decorator_refuses_a_wrong_check(
    reason: Reason | str, step: Step | str, decorated: Any, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check(reason, step=step, order=1)(decorated)
    assert message in str(caught.value)


@pytest.mark.parametrize("order", ["x", None, 1.5, True])
def test_an_order_must_be_an_integer(order: Any) -> None:
    with pytest.raises(UsageError, match=r"check rule: order: got .*; expected an integer"):
        check(Reason.NDNC, step="suppress", order=order)(rule)


@pytest.mark.parametrize("returned", ["a word", 1, object(), [0], None, 0, "", []])
def test_a_rule_must_return_true_or_false(returned: Any) -> None:
    def talkative(candidate: Candidate, now: datetime) -> Any:
        """Return something else."""
        return returned

    made = check(Reason.NDNC, step="suppress", order=1)(talkative)
    verdicts = judge_candidates([VALID_CANDIDATE], [made], NIGHT)
    assert verdicts.blocked == {FAILED_CHECK_REASON: [0]}
    assert str(verdicts.errors["talkative"]) == (
        f"talkative returned {shorten(returned)}; expected True, False or Defer(until)"
    )


def test_a_rule_cannot_end_the_process() -> None:
    def final(candidate: Candidate, now: datetime) -> bool:
        """End the process."""
        raise SystemExit(3)

    made = check(Reason.NDNC, step="suppress", order=1)(final)
    verdicts = judge_candidates([VALID_CANDIDATE], [made], NIGHT)
    assert verdicts.blocked == {FAILED_CHECK_REASON: [0]}


EXTRA_MODULE = """\
from workers.checks.base import check

@check("configuration", step="suppress", order=25)
def night(candidate, now):
    "Block messages after 23:00."
    return now.hour >= 23

@check("data_missing", step="suppress", order=10)
def another(candidate, now):
    "Block no message."
    return False
"""


def test_a_function_and_an_entry_point_add_a_check(install: Callable[..., None]) -> None:
    before = judge_candidates([VALID_CANDIDATE], checks_of(Step.SUPPRESS), NIGHT)
    install(EXTRA_MODULE, night="extra:night")
    after = judge_candidates([VALID_CANDIDATE], checks_of(Step.SUPPRESS), NIGHT)
    assert (before.blocked, after.blocked) == ({}, {Reason.CONFIGURATION: [0]})
    assert "night" not in [check.name for check in checks_of(Step.VALIDATE)]
    assert [check.name for check in third_party_checks()] == ["night"]


def test_a_reason_says_which_check_gave_it_only_if_sendtrace_has_a_check_of_its_name() -> None:
    shipped = all_checks()
    assert all(check.is_evident for check in shipped)
    assert {check.reason for check in shipped} == {
        reason for reason in Reason if reason.step in CHECK_STEPS
    }


@pytest.mark.parametrize("reason", [Reason.CUSTOM_RULE, Reason.OUT_OF_CREDIT])
def test_a_check_that_is_named_like_another_reason_is_named_in_its_verdict(reason: Reason) -> None:
    def blocks(candidate: Candidate, now: datetime) -> bool:
        """Block every message."""
        return True

    blocks.__name__ = reason.slug
    added = check(reason, step=Step.SUPPRESS, order=5)(blocks)
    verdicts = judge_candidates([VALID_CANDIDATE], [added], NIGHT)
    assert not added.is_evident
    assert str(list_verdicts(verdicts)[0]) == f"{reason.slug} ({reason.slug})"


def test_an_added_check_runs_at_its_position(install: Callable[..., None]) -> None:
    install(EXTRA_MODULE, night="extra:night", another="extra:another")
    names = [check.name for check in checks_of(Step.SUPPRESS)]
    at_position_10 = ["another", "organization_disabled"]
    assert names[:5] == [*at_position_10, "configuration", "night", "unsubscribed"]


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        pytest.param("", "import failed: extra has no 'night'", id="no such name"),
        pytest.param(
            "def night(candidate, now): return True",
            "got function; expected a function decorated with @check(REASON,",
            id="not decorated",
        ),
        pytest.param("night = 3", "got int; expected a function decorated", id="not a function"),
        pytest.param(
            EXTRA_MODULE.replace("suppress", "sup"),
            "import failed: check night: unknown step 'sup'",
            id="unknown step",
        ),
        pytest.param(
            EXTRA_MODULE.replace('"configuration"', "Reason.CONFIGURATOIN").replace(
                "from", "from tracker.status import Reason\nfrom", 1
            ),
            "import failed: Reason has no 'CONFIGURATOIN'; did you mean CONFIGURATION",
            id="unknown reason",
        ),
    ],
)
def test_an_entry_point_that_is_not_a_check_is_named(
    install: Callable[..., None], source: str, problem: str
) -> None:
    install(source, broken="extra:night")
    with pytest.raises(UsageError) as caught:
        all_checks()
    assert f"check broken (extra:night, from extra 1.0): {problem}" in str(caught.value)


def test_two_checks_of_one_name_are_refused(
    monkeypatch: pytest.MonkeyPatch, install: Callable[..., None]
) -> None:
    entries = [
        EntryPoint(name, f"workers.checks.suppression:{attribute}", PluginGroup.CHECKS)
        for name, attribute in [("one", "ndnc"), ("other", "unsubscribed"), ("again", "ndnc")]
    ]
    monkeypatch.setattr("workers.plugins.entry_points", lambda **_: EntryPoints(entries))
    with pytest.raises(
        UsageError, match=r"two checks are named ndnc: check one .* and check again"
    ):
        all_checks()


def test_a_worker_does_not_start_with_a_broken_check(
    install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    conf = SimpleNamespace(
        broker_url="redis://broker.example",
        broker_transport_options={"visibility_timeout": 7_200},
        task_time_limit=60,
    )
    app.exit_if_misconfigured(conf=conf)
    install("", broken="extra:no_such_check")
    with pytest.raises(SystemExit) as exited:
        app.exit_if_misconfigured(conf=conf)
    assert exited.value.code == 2
    assert re.match(r"sendtrace: check broken .* import failed", capsys.readouterr().err)
