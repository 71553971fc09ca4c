"""`docker-compose.yml` as Docker reads it: files and anchors merged, variables substituted."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.support.paths import ROOT

FILE = ROOT / "docker-compose.yml"

EXAMPLES = ROOT / "docs" / "examples" / "containers"

VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:[?+-])([^}]*))?\})")
"""`$$`, `${NAME}`, `${NAME:?message}`, `${NAME:-default}` and `${NAME:+alternative}`."""


class MissingVariable(Exception):
    """A required variable isn't set."""


def read_services(variables: Mapping[str, str], *overrides: Path) -> dict[str, Any]:
    """Return the services by name. Raises `MissingVariable`."""
    services: dict[str, Any] = render(variables, *overrides)["services"]
    return services


def render(variables: Mapping[str, str], *overrides: Path) -> dict[str, Any]:
    """Return the whole file, with the files that override it. Raises `MissingVariable`."""
    rendered: dict[str, Any] = {}
    for file in (FILE, *overrides):
        _merge(rendered, _substitute(YAML(typ="safe").load(file), variables))
    return rendered


def _merge(target: dict[str, Any], source: Mapping[str, Any]) -> None:
    """Merge mappings, add to lists of secrets, and replace all else, as Docker does."""
    for key, value in source.items():
        if isinstance(value, dict) and isinstance(target.get(key), dict):
            _merge(target[key], value)
        elif key == "secrets" and isinstance(value, list):
            target[key] = [*target.get(key, ()), *value]
        else:
            target[key] = value


def _substitute(value: Any, variables: Mapping[str, str]) -> Any:
    def replace(match: re.Match[str]) -> str:
        dollar, name, sign, text = match.groups()
        if dollar:
            return "$"
        if sign == ":+":
            return (text or "") if variables.get(name) else ""
        if variables.get(name):
            return variables[name]
        if sign == ":?":
            raise MissingVariable(f"{name}: {text}")
        return text or ""

    if isinstance(value, dict):
        return {key: _substitute(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_substitute(item, variables) for item in value]
    return VARIABLE.sub(replace, value) if isinstance(value, str) else value
