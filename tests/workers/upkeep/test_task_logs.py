"""The warnings that a worker's log leaves out."""

import subprocess
import sys

PROGRAM = """
import warnings
from workers.app import app
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer.consumer import CANCEL_TASKS_BY_DEFAULT

app.log.setup()
warnings.warn("an own one", UserWarning)
warnings.warn(CANCEL_TASKS_BY_DEFAULT, CPendingDeprecationWarning)
"""


def test_a_lost_broker_is_no_reason_to_explain_settings_of_the_next_version() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=150
    )
    assert "an own one" in ended.stderr
    assert "Celery 5.1" not in ended.stderr
