"""Pages, made from the templates beside this module: one file each, that runs and loads nothing."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment

from simulator.figures import format_figure
from tracker.output.render import make_template_environment


def render(template: str, context: Mapping[str, Any]) -> str:
    """A page."""
    return _environment().get_template(template).render(context)


@cache
def _environment() -> Environment:
    return make_template_environment("simulator", filters={"shown": format_figure})
