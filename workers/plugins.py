"""Load plugins: objects that installed packages register as entry points.

Checks, gateways, handlers and services are plugins, those of sendtrace included. Each error names
the plugin, the object that it refers to, and the distribution that registers it.
"""

import inspect
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from types import ModuleType
from typing import Any

from tracker.errors import UsageError
from tracker.text import suggest_similar

OWN_DISTRIBUTION = "sendtrace"


class PluginGroup(StrEnum):
    """An entry-point group that sendtrace reads."""

    CHECKS = "sendtrace.checks"
    GATEWAYS = "sendtrace.gateways"
    HANDLERS = "sendtrace.handlers"
    SERVICES = "sendtrace.services"

    @property
    def noun(self) -> str:
        """The word for a plugin of the group in messages, such as "gateway"."""
        return "services" if self is PluginGroup.SERVICES else self.name.lower().removesuffix("s")


@cache
def find_plugins(group: PluginGroup) -> EntryPoints:
    """Return the entry points of a group in all installed distributions, as of the first call."""
    return entry_points(group=group)


def list_plugin_names(group: PluginGroup) -> list[str]:
    """Return the names of the installed plugins of a group, sorted."""
    return sorted(find_plugins(group).names)


def load_plugin(group: PluginGroup, name: str, *, parameters: Sequence[str]) -> Any:
    """Import the function or class that is registered as `name`, to be called with `parameters`.

    Raises:
        UsageError: no plugin or more than one has this name, its module can't be imported, or the
            object can't be called with these arguments.
    """
    entries = find_plugins(group).select(name=name)
    if not entries:
        similar = suggest_similar(name, list_plugin_names(group))
        raise UsageError(f"{group}: unknown {group.noun} {name!r}{similar}")
    first, *others = entries
    if others:
        raise UsageError(f"{describe_plugin(first)}: same name as {describe_plugin(others[0])}")
    loaded = import_plugin(first)
    try:
        require_parameters(loaded, parameters)
    except UsageError as error:
        raise UsageError(f"{describe_plugin(first)}: {error}") from None
    return loaded


def import_plugin(entry: EntryPoint, *, source: str | None = None) -> Any:
    """Import the object that an entry point refers to; raise `UsageError` if that fails.

    `source` says in error messages where the reference comes from, if no distribution has it.
    """
    try:
        return entry.load()
    except (Exception, SystemExit) as error:  # a module of another package may raise anything
        source = source or describe_plugin(entry)
        raise UsageError(f"{source}: import failed: {_describe_import_error(error)}") from error


def import_own_plugins() -> None:
    """Import the plugins of sendtrace itself.

    Those of other distributions are imported where they are used: a process that has imported them
    may have threads or connections, and can't be forked safely.
    """
    for group in PluginGroup:
        for entry in find_plugins(group):
            if not is_third_party(entry):
                import_plugin(entry)


def describe_plugin(entry: EntryPoint) -> str:
    """Return a plugin's kind, name, reference and distribution, for messages.

    Example: "check left_alone (acme_rules:left_alone, from acme-rules 1.0)".
    """
    origin = f", from {entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
    return f"{PluginGroup(entry.group).noun} {entry.name} ({entry.value}{origin})"


def is_third_party(entry: EntryPoint) -> bool:
    """Return whether a distribution other than sendtrace registers an entry point."""
    return entry.dist is not None and entry.dist.name != OWN_DISTRIBUTION


def require_parameters(function: Callable[..., object], parameters: Sequence[str]) -> None:
    """Raise `UsageError` unless a function can be called with these positional arguments."""
    expected = f"({', '.join(parameters)})"
    if not callable(function):
        raise UsageError(f"got {type(function).__name__}; expected a function of {expected}")
    try:
        signature = inspect.signature(function)
    except ValueError:  # some functions that are written in C have none
        return
    try:
        signature.bind(*parameters)
    except TypeError:
        raise UsageError(f"got signature {signature}; expected {expected}") from None


def _describe_import_error(error: BaseException) -> str:
    match error:
        case UsageError():
            return str(error)
        case SystemExit():
            return f"the module calls sys.exit({error.code!r})"
        case AttributeError(name=str(name), obj=(ModuleType() | type()) as owner):
            public_names = [attribute for attribute in dir(owner) if not attribute.startswith("_")]
            return f"{owner.__name__} has no {name!r}{suggest_similar(name, public_names)}"
        case _:
            return f"{type(error).__name__}: {error}"
