"""Commands that run a rule which ends its process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.factory import judge, make_batch
from tests.support.plugins import plugin_installer
from tests.support.shell import LIMIT_SECONDS, is_running, wait_until
from tracker.queries.next_step import CHECK_STEPS
from tracker.settings import Settings
from tracker.store.database import Database

SMALL = 'name = "sale"\n[[campaigns]]\nname = "spring"\nchannel = "email"\naudience = 100\n'

RULE = """\
import os
import signal
import time
from pathlib import Path

from workers.checks.base import check

def load(campaign, customers):
    {source_action}
    return {{}}

@check("custom_rule", step="suppress", order=1, source=load)
def fatal(candidate, now, data):
    "End the process from number 3 on."
    if candidate.number >= 3:
        {action}
    return False
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """Return the folder of a package with a rule, whose action a test writes."""
    folder = tmp_path / "site"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch, plugin_installer(folder, patch) as install:
        install(RULE.format(action="pass", source_action="pass"), fatal="extra:fatal")
        yield folder


def start(
    site: Path, action: str, *command: str, source_action: str = "pass"
) -> "subprocess.Popen[str]":
    """Start a command with the rule; its temporary files are in a folder beside the rule's."""
    (site / "extra.py").write_text(RULE.format(action=action, source_action=source_action))
    temporary = site.parent / "temporary"
    temporary.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "simulator", "checks", *command],
        env=os.environ | {"PYTHONPATH": str(site), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def write_scenario(folder: Path) -> str:
    file = folder / "sale.toml"
    file.write_text(SMALL)
    return str(file)


@pytest.mark.parametrize(
    ("action", "source_action", "end"),
    [
        ("os._exit(0)", "pass", "exit code 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "pass", "SIGKILL"),
        ("pass", "os._exit(0)", "exit code 0"),
    ],
)
def test_a_rule_that_ends_its_process_is_named(
    site: Path, action: str, source_action: str, end: str
) -> None:
    scenario = write_scenario(site.parent)
    tried = start(site, action, "try", "--scenario", scenario, source_action=source_action)
    output, errors = tried.communicate(timeout=LIMIT_SECONDS)
    assert (tried.returncode, output) == (1, "")
    assert errors == (
        f"sendtrace: check fatal: the process ended while the rule ran ({end});"
        " workers block such a message with reason step_failed\n"
    )
    assert list((site.parent / "temporary").iterdir()) == []


def test_a_rule_that_ends_a_diff_is_named(
    site: Path, database: Database, settings: Settings
) -> None:
    batch = make_batch(database)
    for step in CHECK_STEPS:
        judge(database, batch, step)
    options = ["--campaign", batch.campaign.name, "--database", settings.resolved_database_url]
    ended = start(site, "os._exit(3)", "diff", *options)
    _, errors = ended.communicate(timeout=LIMIT_SECONDS)
    assert (ended.returncode, "check fatal: " in errors) == (1, True), errors


def start_long_rule(site: Path) -> "subprocess.Popen[str]":
    """Start a command with a rule that takes long, and wait until the rule runs."""
    reached = site.parent / "reached"
    action = f"Path({str(reached)!r}).touch(), time.sleep(1)"  # again for each message
    tried = start(site, action, "try", "--scenario", write_scenario(site.parent))
    wait_until(reached.exists, "the rule runs")
    return tried


@pytest.mark.parametrize(
    ("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)]
)
def test_ctrl_c_and_sigterm_still_end_the_command(
    site: Path, send: Callable[[int, int], None], number: int
) -> None:
    tried = start_long_rule(site)
    groups = [os.getpgid(child.pid) for child in psutil.Process(tried.pid).children()]
    assert tried.pid in groups, "a terminal's input and signals reach the rule's process"
    send(tried.pid, number)
    _, errors = tried.communicate(timeout=LIMIT_SECONDS)
    assert (tried.returncode, errors) == (130, "sendtrace: interrupted\n")
    assert list((site.parent / "temporary").iterdir()) == []


def test_a_command_that_is_killed_leaves_no_process_and_no_files(site: Path) -> None:
    tried = start_long_rule(site)
    command = psutil.Process(tried.pid)
    wait_until(lambda: len(command.children()) == 2, "the watchdog runs, too")
    children = command.children()
    tried.kill()
    tried.communicate(timeout=LIMIT_SECONDS)
    wait_until(lambda: not any(map(is_running, children)), "all its processes have ended")
    assert list((site.parent / "temporary").iterdir()) == []


def test_a_command_without_such_a_rule_has_its_own_exit_code(site: Path) -> None:
    tried = start(site, "pass", "try", "--scenario", write_scenario(site.parent))
    output, errors = tried.communicate(timeout=LIMIT_SECONDS)
    assert (tried.returncode, errors) == (0, "")
    assert "spring    passes" in output
    refused = subprocess.run(
        [sys.executable, "-m", "simulator", "checks", "try", "--scenario", "none.toml"],
        capture_output=True,
        check=False,
    )
    assert refused.returncode == 2
