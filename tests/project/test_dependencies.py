"""What a plain installation brings along."""

import re
import tomllib
from importlib.metadata import requires

from tests.support.paths import PYPROJECT, ROOT

NAME = re.compile(r"[A-Za-z0-9._-]+")


def test_all_that_the_redis_transport_imports_is_asked_for() -> None:
    asked = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    needed = [each for each in requires("kombu") or () if 'extra == "redis"' in each]
    assert needed, "kombu has an extra for Redis"
    assert set(map(_name, needed)) <= set(map(_name, asked))


def _name(requirement: str) -> str:
    [name, *_] = NAME.findall(requirement)
    return str(name)


def test_nothing_outside_tests_imports_from_tests() -> None:
    importing = [
        str(path.relative_to(ROOT))
        for folder in ("tracker", "workers", "simulator", "benchmarks", "fault_matrix", "docs")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(from|import) tests\b", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert importing == []
