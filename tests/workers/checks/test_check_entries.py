"""How a check is added: the decorator, the entry point, and what is said where one is wrong."""

import sys
import tomllib
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from reprlib import repr as shown
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.factory import SPRING
from tests.support.paths import PYPROJECT
from tracker.errors import UsageError
from tracker.status import Reason, Step
from workers import app
from workers.candidates import Candidate, Customer
from workers.checks import base
from workers.checks.base import CHECKS_GROUP, Check, all_checks, check, checks_of, judge
from workers.services.base import Subscription

NIGHT = datetime.fromisoformat("2026-11-24T23:59:00+00:00")

SOUND = Candidate(Customer(0, "c0", email="anna@example.com"), SPRING, Subscription())


def undocumented(candidate: Candidate, now: datetime) -> bool:
    return False


def rule(candidate: Candidate, now: datetime) -> bool:
    """Speak against nobody.

    This is of no interest.
    """
    return False


async def hasty(candidate: Candidate, now: datetime) -> bool:
    """Is never awaited."""
    return False


def lazy(candidate: Candidate, now: datetime) -> Iterator[bool]:
    """Is a generator, which is always true."""
    yield False


def blind(now: datetime) -> bool:
    """Sees no candidate."""
    return False


def test_every_entry_of_the_project_is_the_check_of_its_name() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    entries = project["entry-points"][CHECKS_GROUP]
    assert entries, "there are checks"
    for name, value in entries.items():
        module, _, attribute = value.partition(":")
        check = getattr(import_module(module), attribute)
        assert isinstance(check, Check)
        assert (name, name) == (check.reason.slug, check.name)
    installed = {each.name for each in all_checks()}
    assert set(entries) == installed, "install the project anew, its entries have changed"


def test_checks_are_asked_in_the_order_of_their_reasons() -> None:
    assert [each.sort_key for each in all_checks()] == sorted(
        each.sort_key for each in all_checks()
    )
    for step in base.CHECK_STEPS:
        asked = checks_of(step)
        assert [each.order for each in asked] == [*range(10, 10 * len(asked) + 1, 10)]
        assert [each.reason for each in asked] == sorted(each.reason for each in asked)
        assert {each.reason.step for each in asked} - {step} <= {Step.DISPATCH}
        assert all(each.summary.endswith(".") for each in asked)


@pytest.mark.parametrize("reason", ["ndnc", Reason.NDNC])
@pytest.mark.parametrize("step", ["suppress", Step.SUPPRESS])
def test_the_decorator_makes_a_check(reason: Reason | str, step: Step | str) -> None:
    made = check(reason, step=step, order=45)(rule)
    assert made == Check(reason=Reason.NDNC, step=Step.SUPPRESS, order=45, rule=rule)
    assert (made.name, made.summary) == ("rule", "Speak against nobody.")


@pytest.mark.parametrize(
    ("reason", "step", "decorated", "words"),
    [
        pytest.param(
            "unsubscibed",
            "suppress",
            rule,
            "check rule: unknown reason 'unsubscibed'; did you mean unsubscribed",
            id="slip of the keyboard",
        ),
        pytest.param(
            *("zzz", "suppress", rule),
            "'zzz'; expected one of 22, such as organization_disabled, configuration or",
            id="far from all",
        ),
        pytest.param(
            Reason.NDNC,
            "supress",
            rule,
            "check rule: there is no step 'supress'; expected suppress or validate",
            id="no such step",
        ),
        pytest.param(Reason.NDNC, Step.DISPATCH, rule, "no step 'dispatch'", id="does not judge"),
        pytest.param(
            Reason.NDNC, "suppress", undocumented, "check undocumented: has no docstring", id="mute"
        ),
        pytest.param(
            *(Reason.NDNC, "suppress", hasty, "check hasty: is an async function"), id="async"
        ),
        pytest.param(Reason.NDNC, "suppress", lazy, "check lazy: yields", id="generator"),
        pytest.param(
            *(Reason.NDNC, "suppress", blind),
            "check blind: takes (now: datetime.datetime) -> bool; expected (candidate, now)",
            id="one parameter",
        ),
        pytest.param(Reason.NDNC, "suppress", 3, "check 3: is no function", id="no function"),
    ],
)
def test_the_decorator_says_what_is_wrong(
    reason: Reason | str, step: Step | str, decorated: Any, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        check(reason, step=step, order=1)(decorated)
    assert words in str(caught.value)


@pytest.mark.parametrize("order", ["x", None, 1.5, True])
def test_an_order_is_a_whole_number(order: Any) -> None:
    with pytest.raises(UsageError, match=r"check rule: the order .* is no whole number"):
        check(Reason.NDNC, step="suppress", order=order)(rule)


@pytest.mark.parametrize("said", ["a word", 1, object(), [0]])
def test_what_is_no_verdict_is_an_error(said: Any) -> None:
    def talkative(candidate: Candidate, now: datetime) -> Any:
        """Says something else."""
        return said

    made = check(Reason.NDNC, step="suppress", order=1)(talkative)
    verdicts = judge([SOUND], [made], NIGHT)
    assert verdicts.blocked == {base.FAILED_CHECK_REASON: [0]}
    assert str(verdicts.errors["talkative"]) == (
        f"talkative returned {shown(said)}; expected True or False"
    )


def test_a_rule_that_ends_the_program_ends_nothing() -> None:
    def final(candidate: Candidate, now: datetime) -> bool:
        """Goes too far."""
        raise SystemExit(3)

    made = check(Reason.NDNC, step="suppress", order=1)(final)
    assert judge([SOUND], [made], NIGHT).blocked == {base.FAILED_CHECK_REASON: [0]}


@pytest.fixture
def forget() -> Iterator[None]:
    """Have the installed checks looked up anew, in the test and after it."""
    base._load_installed_checks.cache_clear()
    yield
    base._load_installed_checks.cache_clear()


@pytest.fixture
def install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget: None
) -> Iterator[Callable[..., None]]:
    """Install a package with a module ``extra`` of some source and with entries for checks."""

    def package(source: str, **entries: str) -> None:
        (tmp_path / "extra.py").write_text(source)
        metadata = tmp_path / "extra-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
        lines = [f"[{CHECKS_GROUP}]", *(f"{name} = {value}" for name, value in entries.items())]
        (metadata / "entry_points.txt").write_text("\n".join(lines))
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("extra", None)
        base._load_installed_checks.cache_clear()

    yield package
    monkeypatch.undo()
    sys.modules.pop("extra", None)


EXTRA = """\
from workers.checks.base import check

@check("configuration", step="suppress", order=25)
def night(candidate, now):
    "It is too late in the evening."
    return now.hour >= 23

@check("data_missing", step="suppress", order=10)
def another(candidate, now):
    "Nobody."
    return False
"""


def test_a_check_is_added_by_a_function_and_an_entry(install: Callable[..., None]) -> None:
    before = judge([SOUND], checks_of(Step.SUPPRESS), NIGHT)
    install(EXTRA, night="extra:night")
    after = judge([SOUND], checks_of(Step.SUPPRESS), NIGHT)
    assert (before.blocked, after.blocked) == ({}, {Reason.CONFIGURATION: [0]})
    assert "night" not in [each.name for each in checks_of(Step.VALIDATE)]


def test_an_added_check_is_asked_at_its_place(install: Callable[..., None]) -> None:
    install(EXTRA, night="extra:night", another="extra:another")
    asked = [each.name for each in checks_of(Step.SUPPRESS)]
    assert asked[:5] == [
        *("another", "organization_disabled"),  # at one place, by their names
        *("configuration", "night", "unsubscribed"),
    ]


@pytest.mark.parametrize(
    ("value", "source", "words"),
    [
        pytest.param("no_such_module:check", "", "No module named", id="no such module"),
        pytest.param("extra:nihgt", EXTRA, "has no nihgt; did you mean night?", id="no such name"),
        pytest.param(
            *("extra:plain", "def plain(candidate, now): return True", "decorate the function"),
            id="not decorated",
        ),
        pytest.param("extra:CHECKS", "CHECKS = 3", "is no check", id="no function"),
        pytest.param("extra:check", "def check(:", "SyntaxError", id="syntax error"),
        pytest.param(
            *("extra:check", "raise ValueError('no file')", "ValueError: no file"),
            id="fails on import",
        ),
        pytest.param(
            *("extra:check", "import sys; sys.exit(4)", "ends the program when it is imported"),
            id="ends the program",
        ),
        pytest.param(
            *("extra:night", EXTRA.replace("suppress", "sup"), "check night: there is no step"),
            id="wrongly decorated",
        ),
        pytest.param(
            *("extra:night", EXTRA.replace("25", "'x'"), "check night: the order 'x'"),
            id="no number",
        ),
        pytest.param(
            "extra:night",
            EXTRA.replace('"configuration"', "Reason.CONFIGURATOIN").replace(
                "from", "from tracker.status import Reason\nfrom", 1
            ),
            "Reason has no CONFIGURATOIN; did you mean CONFIGURATION",
            id="no such reason",
        ),
    ],
)
def test_an_entry_that_is_no_check_is_named(
    install: Callable[..., None], value: str, source: str, words: str
) -> None:
    install(source, broken=value)
    with pytest.raises(UsageError) as caught:
        all_checks()
    for each in ("broken", value, words):
        assert each in str(caught.value)


def test_two_checks_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, forget: None) -> None:
    twins = [
        EntryPoint(name, f"workers.checks.suppression:{attribute}", CHECKS_GROUP)
        for name, attribute in [("one", "ndnc"), ("other", "unsubscribed"), ("again", "ndnc")]
    ]
    monkeypatch.setattr(base, "entry_points", lambda **_: EntryPoints(twins))
    with pytest.raises(UsageError, match=r"two checks are called ndnc: .*:ndnc and .*:ndnc"):
        all_checks()


def test_a_worker_does_not_start_with_a_broken_check(install: Callable[..., None]) -> None:
    conf = SimpleNamespace(
        broker_url="redis://broker.example",
        broker_transport_options={"visibility_timeout": 7_200},
        task_time_limit=60,
    )
    app.exit_if_misconfigured(conf=conf)
    install("", broken="extra:no_such_check")
    with pytest.raises(SystemExit, match=r"sendtrace: the check broken .* can't be loaded"):
        app.exit_if_misconfigured(conf=conf)
