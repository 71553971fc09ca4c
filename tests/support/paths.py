"""Paths of the checkout that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "scenarios"
PYPROJECT = ROOT / "pyproject.toml"
README = ROOT / "README.md"
