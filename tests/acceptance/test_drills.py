"""The short form of `make drills`: two incidents on a real stack."""

import subprocess
import sys
from pathlib import Path

import pytest

from drills.incidents import INCIDENTS
from drills.results import DrillsFile
from tests.support.make import run_make
from tests.support.paths import ROOT


@pytest.mark.timeout(600)
def test_the_short_form_writes_what_the_stack_said(tmp_path: Path) -> None:
    file, page = tmp_path / "drills.json", tmp_path / "drills.md"
    ended = run_make(
        "drills", "QUICK=1", f"ARGS=--json {file} --page {page}", settings={}, limit=550
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    result = DrillsFile.model_validate_json(file.read_bytes())
    assert [drill.incident for drill in result.drills] == [
        incident.name for incident in INCIDENTS if incident.is_quick
    ]
    for drill in result.drills:
        assert drill.campaign is not None
        assert drill.campaign.is_right, drill
        assert drill.campaign.messages > 0
        assert drill.observation is not None
        assert drill.observation.page, drill
        assert f"## {drill.incident.capitalize()}" in page.read_text()
    worker, broker = result.drills
    assert worker.observation is not None
    assert any("child exited: name=worker-" in line for line in worker.observation.log)
    assert broker.observation is not None
    assert broker.observation.cause == "broker", broker
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--schemafile", str(ROOT / "docs" / "drills.schema.json"), str(file)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
