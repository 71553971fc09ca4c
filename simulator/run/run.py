"""Simulate a scenario: one run, from its first row to its verdict."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulator.faults.inject import reject_unsupported_faults
from simulator.run.environment import describe_machine
from simulator.run.options import RunOptions, reject_missing_rules, reject_unjudgeable_thresholds
from simulator.run.system import open_system
from simulator.scenario.file import Scenario
from tracker.settings import Settings

if TYPE_CHECKING:
    from simulator.results.result import RunResult
    from simulator.run.outcome import RunOutcome


def simulate(
    scenario: Scenario,
    settings: Settings,
    options: RunOptions,
    print_result: "Callable[[RunResult], None]",
) -> "RunOutcome":
    """Run a scenario through real workers, verify and print its result, and record it.

    Args:
        print_result: called with the result before it is recorded.

    Raises:
        UsageError: the scenario can't be run with these settings; nothing is recorded.
        SendtraceError: the run did not finish.
    """
    reject_missing_rules(scenario, options)
    reject_unjudgeable_thresholds(scenario, options)
    reject_unsupported_faults(scenario, settings, is_attached=options.is_attached)
    settings.prepare_home()
    machine = describe_machine(settings.home)
    with open_system(scenario, settings, options) as system, system.readable_errors():
        from simulator.run.start import record_and_drive  # loaded while the worker starts

        return record_and_drive(system, scenario, options, machine, print_result)
