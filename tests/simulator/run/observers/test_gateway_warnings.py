"""The warnings of a worker that a run shows."""

from pathlib import Path

import pytest

from simulator.run.observers import gateway_warnings
from simulator.run.observers.base import RunProgress, RunSnapshot
from simulator.run.observers.gateway_warnings import GatewayWarnings

AT = "2026-12-01T09:00:00.000Z"

SNAPSHOT = RunSnapshot(reports=(), progress=RunProgress(0, 0, 0, 0), planned=0)


def format_warning(batch: int) -> str:
    return f'gateway unavailable: campaign=1 batch={batch} error="554 relaying denied"'


def test_the_cause_of_an_unavailable_gateway_is_shown_once_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, shown = tmp_path / "worker.log", list[str]()
    warnings = GatewayWarnings(log, shown.append)

    def write(text: str) -> None:
        with log.open("a") as file:
            file.write(text)
        warnings.ticked(SNAPSHOT)

    warnings.ticked(SNAPSHOT)
    begin, end = format_warning(2)[:15], format_warning(2)[15:]
    write(f"{AT} INFO celery ready\n{AT} WARNING workers.step_task {begin}")
    assert shown == [], "no log, and half a line"
    write(f"{end}\n{AT} INFO celery retry\n")
    write(f"{AT} WARNING workers.step_task {format_warning(3)}\n")
    assert shown == [format_warning(2)], "the next one is too soon"
    monkeypatch.setattr(gateway_warnings, "WARNING_INTERVAL_SECONDS", 0.0)
    later = GatewayWarnings(log, shown.append)
    later.ticked(SNAPSHOT)
    log.write_text(f"{AT} WARNING workers.step_task {format_warning(4)}\n")
    later.ticked(SNAPSHOT)
    later.ticked(SNAPSHOT)
    assert shown[1:] == [format_warning(3), format_warning(4)], "the log was replaced"


def test_a_reply_with_the_words_of_the_warning_does_not_change_what_is_shown(
    tmp_path: Path,
) -> None:
    log, shown = tmp_path / "worker.log", list[str]()
    quoted = "554 [we] gateway unavailable: [sorry] gateway unavailable: later"
    warning = f'gateway unavailable: campaign=1 batch=2 error="{quoted}"'
    log.write_text(
        f"{AT} WARNING workers.step_task {warning}\n"
        f"{AT} INFO celery.app.trace Task retry: GatewayUnavailable('{quoted}')\n"
    )
    GatewayWarnings(log, shown.append).ticked(SNAPSHOT)
    assert shown == [warning]
