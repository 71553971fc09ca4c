"""What was not as it should be in a drill."""

from collections.abc import Iterator, Sequence

from drills.incidents import DrillIncident
from drills.results import AlertHistory, DrillResult
from tracker.text import join_with_or


def find_faults(
    incident: DrillIncident, result: DrillResult, raised: Sequence[AlertHistory]
) -> list[str]:
    """Return a sentence for each fault.

    Args:
        raised: the alerts that were raised just before the repair.
    """
    return [
        *_judge_observation(incident, result),
        *_judge_alerts(incident, result, raised),
        *_judge_recovery(result),
    ]


def _judge_observation(incident: DrillIncident, result: DrillResult) -> Iterator[str]:
    observation = result.observation
    if observation is None or incident.is_page_gone:
        return
    has_recovered = (
        incident.repair is None
        and result.healthy_after is not None
        and result.healthy_after < observation.seconds
    )
    expected = join_with_or(incident.expected_causes)
    may_be_green = has_recovered or not incident.expected_causes
    if observation.health_status is None:
        yield "/health doesn't answer"
    elif observation.cause is None and not may_be_green:
        yield f"the page stays green; expected {expected}"
    elif observation.cause not in (None, *incident.expected_causes):
        yield f"the page blames {observation.cause}; expected {expected or 'nothing'}"
    for kind, answer in observation.page_answers.items():
        if answer.startswith("no answer"):
            yield f"the page {kind} gives {answer}"


def _judge_alerts(
    incident: DrillIncident, result: DrillResult, raised: Sequence[AlertHistory]
) -> Iterator[str]:
    if result.alerts is None:
        return
    expected = incident.expected_alert
    names = {alert.name for alert in result.alerts}
    if expected is not None and expected not in names:
        yield f"{expected} isn't raised"
    firing = {alert.name for alert in result.alerts if alert.firing_after is not None}
    for name in sorted({alert.name for alert in raised} | firing):
        if name != expected:
            state = "fires" if name in firing else "is pending"
            yield f"{name} {state}, and isn't the alert of this incident"


def _judge_recovery(result: DrillResult) -> Iterator[str]:
    if result.healthy_after is None:
        yield "the stack is not healthy again"
    campaign = result.campaign
    if campaign is not None:
        if campaign.exit_code:
            yield f"the campaign ends with exit code {campaign.exit_code}"
        if campaign.lost or campaign.accepted_twice:
            yield f"{campaign.lost} messages lost, {campaign.accepted_twice} accepted twice"
