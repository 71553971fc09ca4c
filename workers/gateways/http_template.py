"""Render the JSON that an HTTP gateway sends for a message."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tracker.text import suggest_similar

CONTENT_VARIABLES = frozenset({"subject", "text", "html", "unsubscribe_url"})
"""Variables with the content of the message."""

VARIABLES = (
    *("recipient", "sender", "subject", "text", "html", "unsubscribe_url", "customer_id"),
    *("campaign", "campaign_id", "channel", "number", "attempt"),
    *("message_id", "idempotency_key"),
)
"""Variables of a template. `message_id` is the same on every attempt, `idempotency_key` is not."""

DEFAULT_BODY: Mapping[str, str] = {
    name: f"{{{{ {name} }}}}"
    for name in ("recipient", "sender", "subject", "text", "html", "message_id")
}
"""The JSON that is sent unless the settings say otherwise."""

Renderer = Callable[[Mapping[str, object]], Any]


@dataclass(frozen=True)
class JsonTemplate:
    """JSON whose strings are templates.

    Attributes:
        variables: the variables that they use.
    """

    render: Renderer
    variables: frozenset[str]


def compile_json(body: object) -> JsonTemplate:
    """Return the template for a JSON value; raise ValueError if a string can't be rendered."""
    variables: set[str] = set()

    def compile_value(value: object) -> Renderer:
        match value:
            case str():
                renderer, names = _compile_text(value)
                variables.update(names)
                return renderer
            case dict():
                items = {key: compile_value(item) for key, item in value.items()}
                return lambda values: {key: render(values) for key, render in items.items()}
            case list():
                elements = [compile_value(item) for item in value]
                return lambda values: [render(values) for render in elements]
        return lambda _values: value

    return JsonTemplate(compile_value(body), frozenset(variables))


def _compile_text(text: str) -> tuple[Renderer, set[str]]:
    """Return a string's renderer and variables; raise ValueError if it isn't a template."""
    # Imported here because every scenario is read with this module, and few have templates.
    from jinja2 import meta

    from workers.message.environment import render_template
    from workers.message.variables import InvalidTemplate, compile_template, parse_template

    try:
        template = compile_template(text, "json")
        variables = meta.find_undeclared_variables(parse_template(text)) - {"range"}
    except InvalidTemplate as error:
        raise ValueError(f"got {text!r}, which isn't a Jinja2 template: {error}") from None
    for name in sorted(variables.difference(VARIABLES)):
        raise ValueError(
            f"got {text!r} with the unknown variable {name!r}{suggest_similar(name, VARIABLES)}"
        )
    return lambda values: render_template(template, values), variables
