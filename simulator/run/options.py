"""Options of a run: how a scenario is run, as opposed to what is in it."""

from dataclasses import dataclass
from datetime import timedelta

from simulator.figures import WORKERS_CPU, WORKERS_MEMORY, find_speed_group, is_sampled
from simulator.retry import DEFAULT_OUTAGE_LIMIT
from simulator.scenario.file import Scenario
from tracker.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of `sendtrace simulate`.

    Attributes:
        workers: worker processes to start.
        batch_size: most messages of a task.
        is_attached: use workers that run already, and start none.
        should_record: keep the result, and sample queues and workers.
        should_sweep: re-queue stalled batches.
        outage_limit: how long an outage of the broker or the database may last.
        series: the first of the runs that this one repeats; None for the first itself.
    """

    workers: int
    batch_size: int
    is_attached: bool
    should_record: bool
    should_sweep: bool
    outage_limit: timedelta = DEFAULT_OUTAGE_LIMIT
    series: int | None = None


def reject_unjudgeable_thresholds(scenario: Scenario, options: RunOptions) -> None:
    """Raise UsageError for a threshold on a figure that is not measured, or is distorted."""
    names = [campaign.name for campaign in scenario.campaigns]
    distorted = scenario.distorted_groups
    for threshold in scenario.thresholds:
        is_of_workers = threshold.figure in (WORKERS_CPU, WORKERS_MEMORY)
        group = find_speed_group(threshold.figure, names)
        if is_of_workers and options.is_attached:
            cause = "attached workers can't be measured from here; run without --attach"
        elif is_sampled(threshold.figure) and not options.should_record:
            cause = "not sampled with --no-record; run without it"
        elif group in distorted:
            cause = f"can't be judged, as {distorted[group]}; let the clock run in real time"
        else:
            continue
        raise UsageError(
            f'{scenario.path}: thresholds."{threshold.figure}": {cause}, or remove the threshold'
        )


def reject_missing_rules(scenario: Scenario, options: RunOptions) -> None:
    """Raise UsageError for settings or expectations of a rule that the run's workers lack."""
    if not options.is_attached:  # attached workers may have other rules
        scenario.require_rules()
