"""The template environment of all HTML pages."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

TemplateFilters = Mapping[str, Callable[..., str]]


def make_template_environment(
    *packages: str, filters: TemplateFilters = MappingProxyType({})
) -> Environment:
    """Return an environment that finds templates in packages, and in the tracker after them.

    Values are escaped, and an undefined name is an error.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "tracker")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"count": "{:,}".format, **filters})
    return environment
