"""Dependencies of the package, and imports between its folders."""

import re
import tomllib
from importlib.metadata import requires

from tests.support.paths import PYPROJECT, ROOT

NAME = re.compile(r"[A-Za-z0-9._-]+")


def test_dependencies_include_the_redis_extra_of_kombu() -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    extra = [requirement for requirement in requires("kombu") or () if '"redis"' in requirement]
    assert extra, "kombu has an extra for Redis"
    assert set(map(_name, extra)) <= set(map(_name, dependencies))


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
