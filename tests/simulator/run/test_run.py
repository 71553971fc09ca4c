"""The start of a run: what is loaded before its worker starts."""

import subprocess
import sys

LATER_PACKAGES = ("alembic", "simulator.oracle", "simulator.pages", "simulator.setup.record")


def test_worker_starts_before_the_modules_that_record_and_judge_a_run_are_loaded() -> None:
    script = "import simulator.run.run, sys; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, encoding="utf-8", check=True
    )
    loaded = ended.stdout.split()
    assert "simulator.stack.local" in loaded, "it starts broker and worker"
    assert not [module for module in loaded if module.startswith(LATER_PACKAGES)]
