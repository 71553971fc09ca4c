"""`docker-compose.yml` as Docker reads it: anchors merged, variables substituted."""

import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from tests.support.paths import ROOT

FILE = ROOT / "docker-compose.yml"

VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:[?-])([^}]*))?\})")
"""`$$`, `${NAME}`, `${NAME:?message}` and `${NAME:-default}`."""


class MissingVariable(Exception):
    """A required variable isn't set."""


def read_services(variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the services by name. Raises `MissingVariable`."""
    services: dict[str, Any] = _substitute(YAML(typ="safe").load(FILE)["services"], variables)
    return services


def _substitute(value: Any, variables: Mapping[str, str]) -> Any:
    def replace(match: re.Match[str]) -> str:
        dollar, name, sign, text = match.groups()
        if dollar:
            return "$"
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
