"""Install small packages that bring plugins, for one test."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from workers.checks.base import all_checks, third_party_checks
from workers.gateways.base import load_gateway_kind
from workers.plugins import PluginGroup, find_plugins
from workers.services.base import load_services_factory
from workers.services.handlers import find_handler

MODULE = "extra"
"""The module of the installed package, and the name of its distribution."""


def write_distribution(
    folder: Path, module: str, source: str, group: PluginGroup, entries: Mapping[str, str]
) -> None:
    """Write what pip would write into a folder: one module, its metadata and entry points.

    Called again, it adds entry points of another group.
    """
    (folder / f"{module}.py").write_text(source)
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir(exist_ok=True)
    name = module.replace("_", "-")
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{entry} = {value}" for entry, value in entries.items())]
    with (metadata / "entry_points.txt").open("a") as registered:
        registered.write("\n".join([*lines, ""]))


@contextmanager
def plugin_installer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., None]]:
    """Yield a function that installs a distribution with one module and entry points of a group.

    Called again, it adds entry points of another group to the distribution.
    """

    def install(source: str, group: PluginGroup = PluginGroup.CHECKS, **entries: str) -> None:
        write_distribution(folder, MODULE, source, group, entries)
        monkeypatch.syspath_prepend(folder)
        _forget_plugins()

    _forget_plugins()
    yield install
    monkeypatch.undo()
    _forget_plugins()


def _forget_plugins() -> None:
    sys.modules.pop(MODULE, None)
    for cached in (
        *(find_plugins, all_checks, third_party_checks),
        *(load_gateway_kind, load_services_factory, find_handler),
    ):
        cached.cache_clear()
