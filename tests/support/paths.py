"""Paths of the checkout that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SCENARIOS = ROOT / "scenarios"
EXAMPLE_RULES = ROOT / "docs" / "examples" / "rules"
PYPROJECT = ROOT / "pyproject.toml"
README = ROOT / "README.md"
