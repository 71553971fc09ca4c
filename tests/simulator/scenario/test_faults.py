"""The faults of a scenario file, and who may ask for them."""

from pathlib import Path
from typing import Any

import pytest

from simulator.faults.inject import reject_unsupported_faults
from simulator.scenario.faults import FaultKind, FaultSection
from simulator.scenario.file import InvalidScenario, load_scenario
from tests.support.playing import campaign_of, scenario_of
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


@pytest.mark.parametrize(("told", "kind"), GOOD)
def test_faults_that_can_be_played(told: dict[str, Any], kind: FaultKind) -> None:
    fault = FaultSection.model_validate(told)
    assert fault.kind is kind
    assert len(fault.told) > 10


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ('kill = "worker"', r"faults\[0\].at: is missing"),
        ('at = "5s"', r"faults\[0\].*nothing that goes wrong; expected one of kill"),
        ('at = "5s"\nkill = "worker"\nflush = "broker"', r"says kill and flush"),
        ('at = "5s"\nkill = "database"', r"faults\[0\].kill"),
        ('at = "5s"\npause = "database"', r"for: is missing"),
        ('at = "5s"\nflush = "broker"\nfor = "1s"', r"for: has no meaning with flush"),
        ('at = "5s"\nflush = "broker"\ndata = "lost"', r"data: has no meaning without restart"),
        ('at = "5s"\nkill = "worker"\nwhen = "accepted"', r"when: has no meaning without kill"),
        ('at = "5s"\nclock = "1h"', r'puts no clock forward; expected one like "\+1h"'),
        ('at = "5s"\nclock = "-1h"', r"puts no clock forward"),
        ('at = "5s"\nduplicate_tasks = 1.5', r"faults\[0\].duplicate_tasks"),
        ('at = "soon"\nkill = "worker"', r"faults\[0\].at: 'soon' is no duration"),
        ('at = "5s"\nexplode = "all"', r"faults\[0\].explode: unknown key"),
    ],
)
def test_faults_that_make_no_sense_are_refused(tmp_path: Path, told: str, wrong: str) -> None:
    file = tmp_path / "faulty.toml"
    file.write_text(SCENARIO + told + "\n")
    with pytest.raises(InvalidScenario, match=wrong) as caught:
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
    scenario = scenario_of(campaign_of(), faults=(fault,))
    with pytest.raises(UsageError, match=wrong):
        reject_unsupported_faults(
            scenario, load_settings(home=tmp_path, **settings), is_attached=attach
        )
    quiet = scenario_of(campaign_of())
    reject_unsupported_faults(quiet, load_settings(home=tmp_path, **settings), is_attached=attach)
