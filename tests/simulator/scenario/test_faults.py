"""The faults of a scenario file, and the stacks that they can be injected into."""

from pathlib import Path
from typing import Any

import pytest

from simulator.faults.inject import reject_unsupported_faults
from simulator.scenario.faults import FaultKind, FaultSection
from simulator.scenario.file import InvalidScenario, load_scenario
from tests.support.inline_runs import build_campaign, build_scenario
from tracker.errors import UsageError
from tracker.settings import load_settings

SCENARIO = """
name = "faulty"
[[campaigns]]
name = "spring"
channel = "email"
audience = 10
[[faults]]
"""

GOOD: list[tuple[dict[str, Any], FaultKind]] = [
    ({"at": "5s", "kill": "worker"}, FaultKind.KILL),
    ({"at": "0s", "kill": "pool-child"}, FaultKind.KILL),
    ({"at": "0s", "kill": "pool-child", "when": "accepted"}, FaultKind.KILL),
    ({"at": "1m", "restart": "broker"}, FaultKind.RESTART),
    ({"at": "1m", "restart": "broker", "data": "lost"}, FaultKind.RESTART),
    ({"at": "1m", "restart": "worker"}, FaultKind.RESTART),
    ({"at": "1s", "flush": "broker"}, FaultKind.FLUSH),
    ({"at": "1s", "pause": "database", "for": "5s"}, FaultKind.PAUSE),
    ({"at": "1s", "partition": "workers", "for": "10s"}, FaultKind.PARTITION),
    (
        {"at": "1s", "partition": "workers", "for": "10s", "connections": "cut"},
        FaultKind.PARTITION,
    ),
    ({"at": "1s", "duplicate_tasks": 0.05}, FaultKind.DUPLICATE_TASKS),
    ({"at": "1s", "clock": "+1h"}, FaultKind.CLOCK),
]


@pytest.mark.parametrize(("keys", "kind"), GOOD)
def test_every_kind_of_fault_is_understood(keys: dict[str, Any], kind: FaultKind) -> None:
    fault = FaultSection.model_validate(keys)
    assert fault.kind is kind
    assert len(fault.description) > 10


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('kill = "worker"', r"faults\[0\].at: missing"),
        ('at = "5s"', r"faults\[0\]: got no kind of fault; expected one of kill"),
        ('at = "5s"\nkill = "worker"\nflush = "broker"', r"got kill and flush; expected one"),
        ('at = "5s"\nkill = "database"', r"faults\[0\].kill: got 'database'; expected 'worker'"),
        ('at = "5s"\npause = "database"', r"faults\[0\].for: missing"),
        ('at = "5s"\nflush = "broker"\nfor = "1s"', r"faults\[0\].for: not allowed with flush"),
        ('at = "5s"\nflush = "broker"\ndata = "lost"', r"data: only allowed with restart"),
        ('at = "5s"\nkill = "worker"\nwhen = "accepted"', r"when: only allowed with kill"),
        ('at = "5s"\nclock = "1h"', r'got \'1h\'; expected a duration to advance by, like "\+1h"'),
        ('at = "5s"\nclock = "-1h"', r"got '-1h'; expected a duration"),
        ('at = "5s"\nduplicate_tasks = 1.5', r"faults\[0\].duplicate_tasks"),
        ('at = "soon"\nkill = "worker"', r"faults\[0\].at: got 'soon'; expected a duration"),
        ('at = "5s"\nexplode = "all"', r"faults\[0\].explode: unknown key"),
    ],
)
def test_contradictory_faults_are_refused(tmp_path: Path, lines: str, message: str) -> None:
    file = tmp_path / "faulty.toml"
    file.write_text(f"{SCENARIO}{lines}\n")
    with pytest.raises(InvalidScenario, match=message) as caught:
        load_scenario(file)
    assert str(caught.value).startswith(f"{file}: ")


FLUSH = {"at": "1s", "flush": "broker"}
PAUSE = {"at": "1s", "pause": "database", "for": "5s"}


@pytest.mark.parametrize(
    ("fault", "settings", "attach", "wrong"),
    [
        (FLUSH, {}, True, "need a broker and workers that the run itself starts"),
        (
            FLUSH,
            {"broker_url": "redis://localhost:6379/0"},
            False,
            "need a broker and workers that the run itself starts",
        ),
        (PAUSE, {}, False, "pause: got SQLite; expected PostgreSQL"),
    ],
)
def test_they_are_played_on_a_stack_of_our_own(
    tmp_path: Path, fault: dict[str, Any], settings: dict[str, Any], attach: bool, wrong: str
) -> None:
    scenario = build_scenario(build_campaign(), faults=(fault,))
    with pytest.raises(UsageError, match=wrong):
        reject_unsupported_faults(
            scenario, load_settings(home=tmp_path, **settings), is_attached=attach
        )
    quiet = build_scenario(build_campaign())
    reject_unsupported_faults(quiet, load_settings(home=tmp_path, **settings), is_attached=attach)
