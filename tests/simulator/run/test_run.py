"""The start of a run: what is loaded before its worker starts."""

import subprocess
import sys

from tests.support.paths import ROOT

LATER_PACKAGES = ("alembic", "simulator.oracle", "simulator.pages", "simulator.setup.record")


def test_worker_starts_before_the_modules_that_record_and_judge_a_run_are_loaded() -> None:
    """A broker that doesn't answer ends the command just before it would start a worker."""
    command = [sys.executable, "-P", "-X", "importtime", "-m", "simulator", "simulate"]
    command += [str(ROOT / "scenarios" / "ramp.toml"), "--broker", "redis://127.0.0.1:1/0"]
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert "the broker redis://127.0.0.1:1/0 does not answer" in ended.stderr
    loaded = [line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()]
    assert "simulator.run.system" in loaded, "it starts broker and worker"
    assert not [module for module in loaded if module.startswith(LATER_PACKAGES)]
