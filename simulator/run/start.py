"""Record a run, start it once its worker is ready, and drive it."""

from collections.abc import Callable, Mapping
from functools import partial

from simulator.results.observations import RunConditions
from simulator.results.result import RunResult
from simulator.run.drive import add_run_to_errors, drive_run
from simulator.run.driver_record import record_driver
from simulator.run.environment import describe_conditions
from simulator.run.observers.progress import open_display
from simulator.run.options import RunOptions
from simulator.run.outcome import RunOutcome
from simulator.run.system import RunSystem
from simulator.scenario.file import Scenario
from simulator.setup.absent_columns import describe_absent_columns
from simulator.setup.heartbeat import keep_alive
from simulator.setup.record import record_run, start_run
from simulator.setup.run import Run
from tracker.text import pluralize


def record_and_drive(
    system: RunSystem,
    scenario: Scenario,
    options: RunOptions,
    machine: Mapping[str, str],
    print_result: Callable[[RunResult], None],
) -> RunOutcome:
    """Record a run, start it once its worker is ready, and drive it to its end.

    Args:
        machine: description of the machine, made before the run adds load.
        print_result: called with the result before it is recorded.

    Raises:
        SendtraceError: the run did not finish.
    """
    run = _record_run(system, scenario)
    with keep_alive(system.database, run.id, run.driver_number) as heartbeat:
        with add_run_to_errors(system, run, has_started=False):
            system.wait_until_ready()
            conditions = describe_conditions(system, options, machine)
            run = system.outages.retry(partial(_start_run, system, run, options, conditions))
        with add_run_to_errors(system, run, has_started=True):
            return drive_run(system, run, options, heartbeat, print_result)


def _record_run(system: RunSystem, scenario: Scenario) -> Run:
    """Record all that a run needs before its first message."""
    with (
        open_display(scenario.generated_customer_count) as display,
        system.outages.shown_on(display),
    ):
        left_over = system.outages.retry(system.broker.count_waiting_tasks)
        if left_over:
            display.log(
                f"the broker holds {pluralize(left_over, 'task')} of earlier runs;"
                " the workers complete them too"
            )
        run = record_run(
            system.database, scenario, system.settings.home, progress=display.add_customers
        )
        for audience in run.imports:
            if audience.rejects:
                display.log(f"{audience.summary}; see {audience.rejects_file}")
        for warning in describe_absent_columns(scenario.campaigns):
            display.log(warning)
        return run


def _start_run(system: RunSystem, run: Run, options: RunOptions, conditions: RunConditions) -> Run:
    run = start_run(system.database, run)
    started_at = run.clock.now()
    with system.database.write() as connection:
        record_driver(system.database, connection, run, options, conditions, started_at)
    return run
