"""Three simulated days in half a minute: the report counts opens at each 1 am."""

import re
import subprocess
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from simulator.run.observers.nightly import next_one_am
from tests.support.paths import SCENARIOS
from tests.support.shell import FinishedRun, Shell, wait_until
from tracker.audit import engagement, invariants
from tracker.clock import Instant
from tracker.queries.report import make_reports
from tracker.record import catalog
from tracker.status import Engagement
from tracker.store.database import connect
from tracker.store.schema.engagement import engagements

SPEED = 8640

SNAPSHOT_INTERVAL_SECONDS = 0.5
"""An hour and twelve minutes of the run's time."""

DAY = timedelta(days=1)

ENGAGEMENT_INVARIANTS = tuple(
    invariant
    for invariant in invariants.INVARIANTS
    if invariant.query.__module__ == engagement.__name__
)
"""The invariants of engagement."""


@dataclass(frozen=True)
class Snapshot:
    """All campaigns at one instant: the reports' count of opens, and that of the events."""

    as_of: Instant | None
    opened: int
    recounted: int
    broken: tuple[str, ...]


def take_snapshot(connection: Connection) -> Snapshot:
    campaigns = catalog.find_campaigns(connection)
    findings = invariants.check_invariants(connection, campaigns, ENGAGEMENT_INVARIANTS)
    reports = make_reports(connection, campaigns)
    opened = sa.select(engagements.c.campaign_id, engagements.c.number).where(
        engagements.c.kind == Engagement.OPENED
    )
    return Snapshot(
        reports[0].engagement_as_of,
        sum(report.engagement[Engagement.OPENED] for report in reports),
        connection.scalar(sa.select(sa.func.count()).select_from(opened.distinct().subquery()))
        or 0,
        tuple(result.invariant.name for result in findings if not result.is_satisfied),
    )


def test_three_days(shell: Shell) -> None:
    text = (SCENARIOS / "three-days.toml").read_text()
    scenario = shell.write("fast.toml", text.replace("1440", str(SPEED)).replace("5_000", "1_000"))
    arguments = ("--batch-size", "400", "--json", shell.folder / "result.json", "--no-record")
    run = shell.start("simulate", scenario, *arguments)
    wait_until(lambda: bool(shell.query_number("SELECT count(*) FROM campaigns")), "campaigns")
    wait_until(lambda: shell.query_number("SELECT count(*) FROM batches") > 0, "a batch")
    snapshots: list[Snapshot] = []

    def ended() -> bool:
        with database.read() as connection:
            snapshots.append(take_snapshot(connection))
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(SNAPSHOT_INTERVAL_SECONDS)
        return run.process.poll() is not None

    with closing(connect(f"sqlite:///{shell.database}", must_exist=True)) as database:
        wait_until(ended, "the end of the run")
        with database.read() as connection:
            snapshots.append(take_snapshot(connection))
            started_at = catalog.find_campaigns(connection)[0].started_at
    assert run.wait() == 0, run.stderr_text
    assert {name for snapshot in snapshots for name in snapshot.broken} == set()
    assert all(snapshot.opened <= snapshot.recounted for snapshot in snapshots)
    assert any(0 < snapshot.opened < snapshot.recounted for snapshot in snapshots), (
        "opens since the last 1 am wait for the next"
    )
    assert snapshots[-1].opened == snapshots[-1].recounted > 0
    times = {snapshot.as_of for snapshot in snapshots if snapshot.as_of is not None}
    *nights, _last = sorted(times)
    one_am = started_at
    for night in nights:
        one_am = next_one_am(one_am, UTC)
        assert night >= one_am, "one rollup for each 1 am that has passed, at most"
    assert re.search(r"rolled up at .*: monday [1-9][\d,]* opened", run.stderr_text)


def test_the_final_rollup_matches_the_prediction(shell: Shell) -> None:
    engaging = """
name = "quick"
seed = 3

[[campaigns]]
name = "mail"
channel = "email"
audience = 2_000

[engagement.email]
open = 0.5
click = 0.2
unsubscribe = 0.05
spam = 0.01
machine_open = 0.1
"""
    finished = FinishedRun.of(shell, shell.write("quick.toml", engaging), "--no-record")
    [predicted] = finished.result["prediction"]["campaigns"]
    [report] = finished.result["campaigns"]
    for kind in ("opened", "clicked", "spam", "unsubscribed"):
        assert report["sent"][kind] == predicted["engagement"][kind] > 0
    assert predicted["engagement"]["machine_opened"] == pytest.approx(200, abs=60)
    assert datetime.fromisoformat(report["sent"]["engagement_as_of"]).tzinfo is not None
    assert "✘" not in finished.stdout
    assert "as of " in shell.run("report").stdout
    rolled = shell.run("rollup")
    assert (rolled.returncode, rolled.stdout) == (0, "nothing to roll up\n")
    today = datetime.now(UTC).date()
    outputs = [shell.run("rollup", "--date", day.isoformat()) for day in (today, today - DAY)]
    lines = [output.stdout for output in outputs]
    assert any(line.startswith("mail · email · run 1 · seed 3 · ") for line in lines), lines
    assert any(": nothing new " in line for line in lines), lines
    assert all(output.returncode == 0 for output in outputs)
    assert shell.run("verify").returncode == 0


@pytest.mark.parametrize(
    ("day", "problem"),
    [
        *((day, "not a date; expected YYYY-MM-DD") for day in ("yesterday", "2026-02-30", "")),
        ("24.11.2026", "not a date; expected YYYY-MM-DD"),
        ("1969-12-31", "out of range; expected 1970-01-02 to 9998-12-31"),
        ("9999-12-31", "out of range; expected 1970-01-02 to 9998-12-31"),
    ],
)
def test_an_invalid_day_is_refused(shell: Shell, day: str, problem: str) -> None:
    ended = shell.run("rollup", "--date", day)
    assert ended.returncode == 2
    assert ended.stderr == f"sendtrace: --date {day}: {problem}\n"


def test_an_unknown_time_zone_is_named(shell: Shell) -> None:
    ended = shell.run("rollup", settings={"SENDTRACE_TIMEZONE": "Europe/Atlantis"})
    assert ended.returncode == 2
    assert "SENDTRACE_TIMEZONE: 'Europe/Atlantis': not a time zone" in ended.stderr
