"""Dependencies of the package, and imports between its folders."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from tests.support.paths import PYPROJECT, ROOT

NAME = re.compile(r"[A-Za-z0-9._-]+")

OWN_PACKAGES = ("tracker", "workers", "simulator")


def test_every_imported_package_comes_with_the_dependencies() -> None:
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    allowed = _install_closure(declared) | {"pytest"}  # the plugin is for those who have pytest
    distributions = packages_distributions()
    files = (path for package in OWN_PACKAGES for path in (ROOT / package).rglob("*.py"))
    imported = {name for path in (*files, ROOT / "celeryconfig.py") for name in _imports(path)}
    undeclared = {
        name
        for name in imported - sys.stdlib_module_names - set(OWN_PACKAGES)
        if not allowed.intersection(map(_normalize, distributions.get(name, ())))
    }
    assert undeclared == set()


def _install_closure(requirements: Sequence[str]) -> set[str]:
    """Return the distributions that pip installs for some requirements, without extras."""
    installed: set[str] = set()
    pending = list(requirements)
    while pending:
        name = _normalize(_name(pending.pop()))
        if name not in installed:
            installed.add(name)
            with suppress(PackageNotFoundError):  # a requirement of other platforms
                pending += [needed for needed in requires(name) or () if "extra ==" not in needed]
    return installed


def _imports(path: Path) -> Iterator[str]:
    """Yield the top-level packages that a module imports, wherever it does so."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_dependencies_include_the_redis_extra_of_kombu() -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    extra = [requirement for requirement in requires("kombu") or () if '"redis"' in requirement]
    assert extra, "kombu has an extra for Redis"
    assert set(map(_name, extra)) <= set(map(_name, dependencies))


def _name(requirement: str) -> str:
    [name, *_] = NAME.findall(requirement)
    return str(name)


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_nothing_outside_tests_imports_from_tests() -> None:
    folders = ("tracker", "workers", "simulator", "benchmarks", "drills", "fault_matrix", "docs")
    assert [*_find_importing(folders, r"tests\b")] == []


def test_no_test_imports_from_another_test() -> None:
    assert [*_find_importing(["tests"], r"tests\.(\w+\.)*test_\w+ import")] == []


def _find_importing(folders: Sequence[str], module: str) -> Iterator[str]:
    """Yield the files in some folders that import a module, which is a regular expression."""
    pattern = re.compile(rf"^\s*(from|import) {module}", re.MULTILINE)
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if pattern.search(path.read_text("utf-8")):
                yield str(path.relative_to(ROOT))
