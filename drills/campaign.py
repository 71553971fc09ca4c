"""A small campaign that is sent during an incident, and what became of its messages."""

import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from drills.results import CampaignOutcome
from drills.stack import DrillStack, StackFailed, wait_for
from fault_matrix.record import RecordCounts, count_record, read_start
from tracker.status import Status
from tracker.store.database import Database, connect

CAMPAIGN = "drill"

RATE = 100
"""Messages that arrive per second."""

BATCH_SIZE = 100

EXIT_FAILED = 1
"""Exit code of a driver that gave up."""

MAX_RESUMED = 3

START_LIMIT_SECONDS = 60.0

END_LIMIT_SECONDS = 240.0

OUTPUT_TAIL_CHARACTERS = 1_500
"""How much of a failed command's output is kept."""

SCENARIO = """\
name = "{name}"

[[campaigns]]
name = "{name}"
channel = "email"
audience = {audience}
requires = ["coupon"]
load = {{ shape = {{ constant = {rate} }} }}
defects = {{ unsubscribed = 0.03, email_missing = 0.01, coupon_expired = 0.02 }}

[gateways.email]
latency = {{ median = "300ms", p99 = "1s" }}
hard_bounce = 0.02
soft_bounce = 0.05
retry_after = "2s"
{gateway}
"""

NEWEST = sa.text("SELECT id, run_id FROM campaigns ORDER BY id DESC LIMIT 1")

MOVED = sa.text(
    "SELECT 1 FROM messages WHERE campaign_id = :campaign AND status <> :queued LIMIT 1"
)


@dataclass
class AttachedCampaign:
    """A campaign in progress on a stack.

    Attributes:
        before: the counts of the record before the campaign.
        started_at: when the run started, in seconds since 1970.
        resumed: how often `sendtrace resume` continued the run.
    """

    stack: DrillStack
    process: "subprocess.Popen[bytes]"
    output: Path
    before: RecordCounts
    run_id: int
    campaign_id: int
    started_at: float
    resumed: int = 0

    @property
    def is_abandoned(self) -> bool:
        """True while the live page says that the run has no living driver."""
        campaign = self.stack.ask_json(f"/api/campaigns/{self.campaign_id}")
        return isinstance(campaign, dict) and campaign.get("state") == "abandoned"

    def kill_driver(self) -> None:
        """Kill the process that queues the messages."""
        self.process.kill()
        self.process.wait()

    def resume(self) -> None:
        """Continue the run with a new driver."""
        self.process = self.stack.run("resume", str(self.run_id), output=self.output)
        self.resumed += 1

    def resume_if_given_up(self) -> None:
        """Continue the run if its driver has given up, and the page calls it abandoned."""
        has_given_up = self.process.poll() == EXIT_FAILED and self.resumed < MAX_RESUMED
        if has_given_up and self.is_abandoned:
            self.resume()

    def _has_ended(self) -> bool:
        self.resume_if_given_up()
        exit_code = self.process.poll()
        has_given_up = exit_code == EXIT_FAILED and self.resumed < MAX_RESUMED
        return exit_code is not None and not has_given_up

    def wait_for_outcome(self) -> CampaignOutcome:
        """Wait until the run has ended, and return what the record says then."""
        wait_for(self._has_ended, END_LIMIT_SECONDS)
        self.kill_driver()
        with closing(connect(self.stack.database_url)) as database:
            after = count_record(database)
        exit_code = self.process.returncode
        output = self.output.read_text(errors="replace")[-OUTPUT_TAIL_CHARACTERS:]
        return CampaignOutcome(
            exit_code=exit_code,
            messages=after.messages - self.before.messages,
            lost=after.lost - self.before.lost,
            accepted_twice=after.accepted_twice - self.before.accepted_twice,
            resumed=self.resumed,
            output="" if exit_code == 0 else output,
        )


def start_campaign(
    stack: DrillStack, folder: Path, *, seconds: float, gateway: str = ""
) -> AttachedCampaign:
    """Start a campaign on a stack, and wait until a message has moved and the page knows it.

    Args:
        folder: a folder for the scenario and the output.
        seconds: time in which the messages arrive.
        gateway: further settings of the gateway, in TOML.

    Raises:
        StackFailed: that didn't happen in time.
    """
    scenario, output = folder / "drill.toml", folder / "drill.out"
    scenario.write_text(
        SCENARIO.format(name=CAMPAIGN, audience=round(RATE * seconds), rate=RATE, gateway=gateway)
    )
    with closing(connect(stack.database_url)) as database:
        before = count_record(database)
        last, _ = _find_newest(database)
        command = ("simulate", str(scenario), "--attach", f"--batch-size={BATCH_SIZE}")
        process = stack.run(*command, output=output)

        def is_in_progress() -> bool:
            campaign_id, run_id = _find_newest(database)
            is_known = f'run="{run_id}"' in stack.ask("/metrics").text
            return campaign_id > last and is_known and _has_moved(database, campaign_id)

        if wait_for(is_in_progress, START_LIMIT_SECONDS) is None:
            process.kill()
            raise StackFailed(f"no message moved: {output.read_text(errors='replace')[-2_000:]}")
        campaign_id, run_id = _find_newest(database)
        started_at = read_start(database)
    return AttachedCampaign(
        stack=stack,
        process=process,
        output=output,
        before=before,
        run_id=run_id,
        campaign_id=campaign_id,
        started_at=started_at,
    )


def _find_newest(database: Database) -> tuple[int, int]:
    """Return the ids of the newest campaign and of its run; zeros before the first one."""
    with database.read() as connection:
        row = connection.execute(NEWEST).first()
    return (0, 0) if row is None else (int(row.id), int(row.run_id))


def _has_moved(database: Database, campaign_id: int) -> bool:
    with database.read() as connection:
        parameters = {"campaign": campaign_id, "queued": int(Status.QUEUED)}
        return connection.execute(MOVED, parameters).first() is not None
