"""The environment of a run."""

from math import inf
from pathlib import Path

import pytest

from simulator.run.environment import read_cpu_quota


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000\n", 1.5), ("max 100000\n", inf), ("", inf), (None, inf)]
)
def test_the_cores_of_a_container_are_read(tmp_path: Path, text: str | None, cores: float) -> None:
    file = tmp_path / "cpu.max"
    if text is not None:
        file.write_text(text)
    assert read_cpu_quota(file) == cores
