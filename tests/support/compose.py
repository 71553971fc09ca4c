"""``docker-compose.yml`` as Docker reads it: anchors merged, variables put in."""

import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from tests.support.paths import ROOT

FILE = ROOT / "docker-compose.yml"

PLACE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:[?-])([^}]*))?\})")
"""``$$``, ``${NAME}``, ``${NAME:?what to do}`` and ``${NAME:-instead}``."""


class Unset(Exception):
    """A variable that has to be set is not; says what to do."""


def read_services(variables: Mapping[str, str]) -> dict[str, Any]:
    """The services by name. Raises :exc:`Unset`."""
    read = YAML(typ="safe").load(FILE)
    services: dict[str, Any] = _with_variables(read["services"], variables)
    return services


def _with_variables(value: Any, variables: Mapping[str, str]) -> Any:
    def put_in(found: re.Match[str]) -> str:
        dollar, name, sign, told = found.groups()
        if dollar:
            return "$"
        if variables.get(name):
            return variables[name]
        if sign == ":?":
            raise Unset(f"{name}: {told}")
        return told or ""

    if isinstance(value, dict):
        return {key: _with_variables(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_variables(each, variables) for each in value]
    return PLACE.sub(put_in, value) if isinstance(value, str) else value
