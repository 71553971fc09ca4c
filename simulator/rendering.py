"""Pages, made from the templates beside this module: one file each, that runs and loads nothing."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from simulator.figures_text import shown


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page. What is not of our own making is escaped, and a name that the template does not know
    is an error."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("simulator"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Callable[..., str]] = {"count": _count, "shown": shown}
    environment.filters.update(filters)
    return environment


def _count(number: int) -> str:
    return f"{number:,}"
