"""Templates of the self-contained pages."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment

from simulator.figures import format_figure
from tracker.output.render import make_template_environment


def render_template(template: str, variables: Mapping[str, Any]) -> str:
    """Return a template's text, rendered with some variables."""
    return _environment().get_template(template).render(variables)


@cache
def _environment() -> Environment:
    return make_template_environment("simulator", filters={"figure": format_figure})
