"""Play one incident on a stack."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drills.alerts import AlertWatch, watch_alerts
from drills.campaign import start_campaign
from drills.findings import find_faults
from drills.incidents import DrillIncident, Repair, Scene
from drills.observe import Baseline, observe
from drills.results import AlertHistory, DrillResult
from drills.stack import DrillStack, wait_for
from drills.watches import NoticeWatch, RecoveryWatch

HEALTHY_LIMIT_SECONDS = 180.0
"""Time that a stack has to become healthy."""

ALERTS_END_LIMIT_SECONDS = 30.0
"""Time that alerts have to end, once the stack is healthy and its campaign is over."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a drill waits, in seconds.

    Attributes:
        observed_after: from the harm to the observation; the short form observes earlier, as soon
            as the harm is noticed or over.
        alert_wait: from the harm until the repair, if the expected alert doesn't fire before.
        arrivals: time in which the campaign's messages arrive.
    """

    observed_after: float
    alert_wait: float
    arrivals: float
    is_short: bool = False


FULL_PACE = Pace(observed_after=10.0, alert_wait=120.0, arrivals=60.0)

QUICK_PACE = Pace(observed_after=60.0, alert_wait=0.0, arrivals=6.0, is_short=True)


def play(incident: DrillIncident, stack: DrillStack, folder: Path, pace: Pace) -> DrillResult:
    """Play an incident on a healthy stack, and return the result.

    Args:
        folder: an empty folder for the drill's files.

    Raises:
        StackFailed: the campaign didn't start, or the stack not again.
    """
    with watch_alerts(stack.web_port, folder) as alerts:
        campaign = start_campaign(stack, folder, seconds=pace.arrivals, gateway=incident.gateway)
        scene = Scene(stack, campaign)
        baseline = Baseline(stack)
        if alerts is not None:
            alerts.remember_raised()
        incident.harm(scene)
        harmed_at = time.monotonic()
        if alerts is not None:
            alerts.mark_harm()
        notice = NoticeWatch(lambda: not scene.is_well)
        recovery = None if incident.repair else _watch_recovery(scene, harmed_at)
        wait_for(
            lambda: pace.is_short and (notice.has_noticed or bool(recovery and recovery.is_over)),
            max(0.0, harmed_at + pace.observed_after - time.monotonic()),
        )
        observation = observe(stack, campaign, baseline, time.monotonic() - harmed_at)
        _wait_for_alert(incident, alerts, harmed_at + pace.alert_wait)
        raised = _list_raised(alerts)
        harm_seconds = None
        if incident.repair is not None:
            ended_at = _end_incident(incident.repair, scene)
            harm_seconds = round(ended_at - harmed_at, 1)
            recovery = _watch_recovery(scene, ended_at, is_repaired=True)
        healthy_after = None if recovery is None else recovery.wait()
        notice.stop()
        outcome = campaign.wait_for_outcome()
        if alerts is not None:
            wait_for(alerts.has_ended, ALERTS_END_LIMIT_SECONDS)
        result = DrillResult(
            **describe_incident(incident),
            skipped=None,
            observation=observation,
            noticed_after=notice.noticed_after,
            harm_seconds=harm_seconds,
            healthy_after=healthy_after,
            alerts=None if alerts is None else list(alerts.histories()),
            campaign=outcome,
            findings=[],
        )
    return result.model_copy(update={"findings": find_faults(incident, result, raised)})


def describe_incident(incident: DrillIncident) -> dict[str, Any]:
    """Return the keys of a result that come from the incident."""
    return {
        "incident": incident.name,
        "place": incident.place,
        "harm": incident.harm_text,
        "repair": "" if incident.repair is None else incident.repair.text,
        "expected_causes": list(incident.expected_causes),
        "expected_alert": incident.expected_alert,
    }


def _end_incident(repair: Repair, scene: Scene) -> float:
    """Repair the stack, and return the monotonic time from which it can recover."""
    started_at = time.monotonic()
    repair.perform(scene)
    return time.monotonic() if repair.is_wait else started_at


def _watch_recovery(scene: Scene, started_at: float, *, is_repaired: bool = False) -> RecoveryWatch:
    """Begin to measure until the stack is healthy.

    Whoever repairs a stack also resumes the run if its driver gave up meanwhile.
    """

    def is_healthy() -> bool:
        if is_repaired:
            scene.campaign.resume_if_given_up()
        return scene.is_well and scene.stack.has_all_workers()

    return RecoveryWatch(is_healthy, started_at, HEALTHY_LIMIT_SECONDS)


def _wait_for_alert(incident: DrillIncident, alerts: AlertWatch | None, deadline: float) -> None:
    """Wait until the alert of an incident fires, if the incident lasts until a person ends it."""
    expected = incident.expected_alert
    lasts = incident.repair is not None and not incident.repair.is_wait
    if alerts is not None and expected is not None and lasts:
        wait_for(lambda: alerts.is_firing(expected), max(0.0, deadline - time.monotonic()))


def _list_raised(alerts: AlertWatch | None) -> Sequence[AlertHistory]:
    """Return the alerts that are raised now."""
    histories = [] if alerts is None else alerts.histories()
    return [alert for alert in histories if alert.ended_after is None]
