"""A drill finds a green page, a wrong cause, a second alert, and lost messages."""

from collections.abc import Sequence
from typing import Any

import pytest

from drills.findings import find_faults
from drills.incidents import INCIDENTS
from drills.results import AlertHistory, CampaignOutcome, DrillResult
from tests.support.drills import make_drill

BY_NAME = {incident.name: incident for incident in INCIDENTS}


def find(name: str, result: DrillResult, raised: Sequence[AlertHistory] = ()) -> list[str]:
    return find_faults(BY_NAME[name], result, raised)


def observe(**changes: Any) -> DrillResult:
    drill = make_drill(alerts=[alert("SendtraceBrokerUnavailable", firing=60.0)])
    assert drill.observation is not None
    return drill.model_copy(update={"observation": drill.observation.model_copy(update=changes)})


def alert(name: str, *, firing: float | None = None, ended: float | None = None) -> AlertHistory:
    return AlertHistory(name=name, pending_after=2.0, firing_after=firing, ended_after=ended)


def test_nothing_is_found_where_all_is_as_expected() -> None:
    assert find("broker hung", observe()) == []


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"cause": None}, "the page stays green; expected broker"),
        ({"cause": "workers"}, "the page blames workers; expected broker"),
        ({"health_status": None, "cause": None}, "/health doesn't answer"),
        ({"page_answers": {"runs": "no answer: timed out"}}, "the page runs gives no answer: "),
    ],
)
def test_what_the_page_says_is_judged(changes: dict[str, Any], fault: str) -> None:
    [found] = find("broker hung", observe(**changes))
    assert found.startswith(fault)


def test_a_stack_that_has_recovered_alone_may_be_green() -> None:
    green = observe(cause=None).model_copy(update={"alerts": []})
    recovered = green.model_copy(update={"healthy_after": 3.0})
    late = green.model_copy(update={"healthy_after": 12.0})
    assert find("broker killed", recovered) == []
    assert find("broker killed", late) == ["the page stays green; expected broker or workers"]


def test_a_second_alert_is_found() -> None:
    beat = alert("SendtraceBeatDead", ended=9.0)
    drill = observe()
    assert drill.alerts is not None
    both = drill.model_copy(update={"alerts": [*drill.alerts, beat]})
    assert find("broker hung", both) == [], "it was pending for a moment"
    [pending] = find("broker hung", both, raised=[beat])
    assert pending.startswith("SendtraceBeatDead is pending")
    firing = drill.model_copy(
        update={"alerts": [*drill.alerts, alert("SendtraceBeatDead", firing=60.0)]}
    )
    [fires] = find("broker hung", firing)
    assert fires.startswith("SendtraceBeatDead fires")
    silent = drill.model_copy(update={"alerts": []})
    assert find("broker hung", silent) == ["SendtraceBrokerUnavailable isn't raised"]


def test_a_stack_that_stays_down_and_lost_messages_are_found() -> None:
    campaign = CampaignOutcome(
        exit_code=3, messages=9, lost=2, accepted_twice=1, resumed=1, output="…"
    )
    drill = observe().model_copy(update={"healthy_after": None, "campaign": campaign})
    assert find("broker hung", drill) == [
        "the stack is not healthy again",
        "the campaign ends with exit code 3",
        "2 messages lost, 1 accepted twice",
    ]
    assert not drill.has_recovered
    assert observe().has_recovered
