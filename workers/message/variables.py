"""The variables of templates: which there are, and what customers need because of them."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from jinja2 import Template, TemplateSyntaxError, meta, nodes

from tracker.status import Channel
from tracker.text import suggest_similar
from workers.message.environment import FILTERS, REFUSED_NODES, get_environment

UNSUBSCRIBE_URL = "unsubscribe_url"

ALWAYS_PRESENT = frozenset({"campaign", "customer_id", "organization", "title"})
"""Variables that every message has."""

REQUIREMENT_BY_VARIABLE: Mapping[str, str] = MappingProxyType(
    {
        "coupon_id": "coupon",
        "last_store": "last_store",
        "profile": "profile",
        "referral": "referral",
    }
)
"""Variables that a customer may lack, each with the requirement that it becomes."""

ADDRESS_BY_CHANNEL: Mapping[Channel, str] = MappingProxyType(
    {Channel.EMAIL: "email", Channel.SMS: "mobile"}
)
"""The variable that every message of a channel has, because it is the recipient's address."""

NAMESPACES = ("field", "tag")
"""Variables that have values by name: `{{ field.city }}`."""

VARIABLES = (
    *sorted({*ALWAYS_PRESENT, *REQUIREMENT_BY_VARIABLE, *ADDRESS_BY_CHANNEL.values()}),
    UNSUBSCRIBE_URL,
)
CHOICES = (*VARIABLES, *(f"{name}.NAME" for name in NAMESPACES))


class InvalidTemplate(ValueError):
    """A template that can't be used; the message says where and why."""


class VariableUse(NamedTuple):
    """The use of a variable in a template.

    Attributes:
        name: the variable, or `field:NAME` or `tag:NAME`.
        is_optional: whether the template has a default for a missing value.
    """

    name: str
    is_optional: bool


@lru_cache(maxsize=256)
def compile_template(text: str, part: str) -> Template:
    """Return the compiled template of a part of a message; raise `InvalidTemplate`."""
    environment = get_environment(is_html=part == "html", is_url=part == UNSUBSCRIBE_URL)
    try:
        parse_template(text)
        return environment.from_string(text)
    except TemplateSyntaxError as error:
        raise InvalidTemplate(f"line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise InvalidTemplate("the template is nested too deeply") from None


def parse_template(text: str) -> nodes.Template:
    """Return the syntax tree of a template; raise `InvalidTemplate` if it can't be used."""
    try:
        tree = get_environment().parse(text)
    except TemplateSyntaxError as error:
        raise InvalidTemplate(f"line {error.lineno}: {error.message}") from None
    for refused in tree.find_all(REFUSED_NODES):
        raise InvalidTemplate(
            f"line {refused.lineno}: {type(refused).__name__.lower()} isn't available in messages"
        )
    for used in tree.find_all(nodes.Filter):
        if used.name not in FILTERS:
            similar = suggest_similar(used.name, sorted(FILTERS))
            raise InvalidTemplate(f"line {used.lineno}: unknown filter {used.name!r}{similar}")
    for call in tree.find_all(nodes.Call):
        if not isinstance(call.node, nodes.Name) or call.node.name != "range":
            raise InvalidTemplate(
                f"line {call.lineno}: calls aren't available in messages; use a filter, as in"
                " {{ title | upper }}"
            )
    return tree


@lru_cache(maxsize=256)
def find_variables(text: str) -> frozenset[VariableUse]:
    """Return the variables that a template uses.

    Raises:
        InvalidTemplate: the template isn't valid, or uses a variable in a way that has no meaning.
    """
    tree = parse_template(text)
    for name in tree.find_all(nodes.Name):
        if name.ctx != "load" and name.name in {*VARIABLES, *NAMESPACES}:
            raise InvalidTemplate(f"line {name.lineno}: {name.name} can't be set")
    undeclared = meta.find_undeclared_variables(tree) - {"range"}
    for unknown in sorted(undeclared - {*VARIABLES, *NAMESPACES}):
        raise InvalidTemplate(f"unknown variable {unknown!r}{suggest_similar(unknown, CHOICES)}")
    return frozenset(_find_uses(tree, is_optional=False))


def _find_uses(node: nodes.Node, *, is_optional: bool) -> Iterator[VariableUse]:
    """Yield the uses of variables below a node; `is_optional` is about the node itself."""
    if isinstance(node, nodes.Name):
        if node.name in NAMESPACES:
            raise InvalidTemplate(
                f'line {node.lineno}: {node.name}: expected {node.name}.NAME or {node.name}["NAME"]'
            )
        if node.name in VARIABLES:
            yield VariableUse(node.name, is_optional)
        return
    if isinstance(node, nodes.Getattr | nodes.Getitem) and isinstance(node.node, nodes.Name):
        namespace = node.node.name
        if namespace in NAMESPACES:
            yield VariableUse(f"{namespace}:{_read_name(node, namespace)}", is_optional)
            return
    has_default = isinstance(node, nodes.Filter) and node.name in ("default", "d")
    is_test = isinstance(node, nodes.Test) and node.name in ("defined", "undefined")
    operand = getattr(node, "node", None) if has_default or is_test else None
    for child in node.iter_child_nodes():
        yield from _find_uses(child, is_optional=child is operand)


def _read_name(node: nodes.Getattr | nodes.Getitem, namespace: str) -> str:
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        return node.arg.value
    raise InvalidTemplate(
        f'line {node.lineno}: {namespace}[…]: expected a name in quotes, as in {namespace}["city"]'
    )


def list_variables(templates: Mapping[str, str]) -> frozenset[str]:
    """Return the names of all variables that the templates of a message use."""
    uses_by_part = map(find_variables, templates.values())
    return frozenset(use.name for uses in uses_by_part for use in uses)


def find_requirements(
    templates: Mapping[str, str], channel: Channel, *, has_unsubscribe_url: bool
) -> tuple[str, ...]:
    """Return what every customer needs for the templates of a message, sorted.

    Args:
        templates: the templates by the part of the message.
        has_unsubscribe_url: whether the organization has an address to unsubscribe on the web.

    Raises:
        InvalidTemplate: a template can't be used. The message begins with the part.
    """
    requirements: set[str] = set()
    for part, text in templates.items():
        try:
            compile_template(text, part)
            for use in find_variables(text):
                requirement = _find_requirement(use, channel, has_unsubscribe_url)
                if requirement is not None:
                    requirements.add(requirement)
        except InvalidTemplate as error:
            raise InvalidTemplate(f"{part}: {error}") from None
    return tuple(sorted(requirements))


def _find_requirement(use: VariableUse, channel: Channel, has_unsubscribe_url: bool) -> str | None:
    """Return the requirement that the use of a variable becomes, or None."""
    always = ALWAYS_PRESENT | {ADDRESS_BY_CHANNEL[channel]}
    if use.is_optional or use.name in always:
        return None
    if use.name == UNSUBSCRIBE_URL:
        if has_unsubscribe_url:
            return None
        raise InvalidTemplate(
            f"{UNSUBSCRIBE_URL}: the organization has none on the channel {channel}; set it, or"
            f" use {{{{ {UNSUBSCRIBE_URL} | default('…') }}}}"
        )
    if use.name in ADDRESS_BY_CHANNEL.values():
        raise InvalidTemplate(
            f"{use.name}: customers of a campaign on the channel {channel} may have none; use"
            f" {{{{ {use.name} | default('…') }}}}"
        )
    return REQUIREMENT_BY_VARIABLE.get(use.name, use.name)
