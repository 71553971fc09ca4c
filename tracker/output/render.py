"""Pages, made from templates: those of a floor, and what all pages share, beside this module."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

TemplateFilters = Mapping[str, Callable[..., str]]


def make_template_environment(
    *packages: str, filters: TemplateFilters = MappingProxyType({})
) -> Environment:
    """Where the pages of some ``packages`` come from, and those of the tracker. What is not of our
    own making is escaped, and a name that a template does not know is an error."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(each) for each in (*packages, "tracker")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"count": _format_count, **filters})
    return environment


def _format_count(number: int) -> str:
    return f"{number:,}"
