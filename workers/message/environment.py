"""The sandbox in which the templates of messages are rendered.

A template is written by the author of a scenario and filled with data of customers. It can't call
methods, can't read attributes of Python objects, and can't take all of a worker's time or memory.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import StrictUndefined, Template, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workers.message.limits import ALLOWANCE, LIMITED_FILTERS, Allowance, LimitInserter

MAX_RENDERED_CHARACTERS = 1_000_000
"""Characters that a part of a message may have."""

MAX_LOOP_ITEMS = 10_000
"""Numbers that all calls of `range` together may give while a part is rendered."""

FILTERS = frozenset(
    {"abs", "capitalize", "count", "d", "default", "e", "escape", "first", "float", "int", "join"}
    | {"last", "length", "lower", "max", "min", "replace", "reverse", "round", "safe", "sort"}
    | {"striptags", "sum", "title", "trim", "truncate", "unique", "upper", "urlencode", "wordcount"}
)
"""Filters that a template may use. Those that can make a long text are limited."""

REFUSED_NODES: tuple[type[nodes.Node], ...] = (
    nodes.CallBlock,
    nodes.Extends,
    nodes.FromImport,
    nodes.Import,
    nodes.Include,
    nodes.Macro,
)
"""Statements that a template may not use: they read other templates, or may call themselves."""

_LIMITED_OPERATORS = ("*", "**", "%")


class MessageTooLong(SecurityError):
    """A part of a message has more than `MAX_RENDERED_CHARACTERS`."""


class LimitedRange:
    """The function `range` of one rendering, which limits what all of its calls give."""

    def __init__(self) -> None:
        self._left = MAX_LOOP_ITEMS

    def __call__(self, *arguments: int) -> range:
        """Return the numbers; raise `OverflowError` beyond the limit."""
        numbers = range(*arguments)
        self._left -= len(numbers)
        if self._left < 0:
            raise OverflowError(f"range gives more than {MAX_LOOP_ITEMS:,} numbers in all")
        return numbers


class MessageEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox that allows no calls but `range`, and only operators of bounded results."""

    intercepted_binops = frozenset(_LIMITED_OPERATORS)

    def __init__(self, *, autoescape: bool, finalize: Callable[[object], object]) -> None:
        super().__init__(autoescape=autoescape, finalize=finalize, undefined=StrictUndefined)
        self.globals = {}
        self.filters = {name: self.filters[name] for name in FILTERS} | LIMITED_FILTERS

    def _generate(self, source: nodes.Template, *arguments: Any, **options: Any) -> str:
        """Generate the code of a template, with limits of its work in it."""
        return super()._generate(LimitInserter().visit(source), *arguments, **options)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether a template may read an attribute: methods could only be printed."""
        return super().is_safe_attribute(obj, attr, value) and not callable(value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Return a value that raises an error for an attribute that a template may not read."""
        return self.undefined(
            f"{attribute!r} of a {type(obj).__name__} isn't available: templates use filters, such"
            " as {{ title | upper }}, not methods",
            exc=SecurityError,
        )

    def is_safe_callable(self, obj: Any) -> bool:
        """Return whether a template may call an object."""
        return isinstance(obj, LimitedRange)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute `*` and `%` of numbers; with texts, they could make any length."""
        is_of_numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if operator == "**" or not is_of_numbers:
            raise SecurityError(f"the operator {operator} is available for numbers only")
        return super().call_binop(context, operator, left, right)


@cache
def get_environment(*, is_html: bool = False, is_url: bool = False) -> MessageEnvironment:
    """Return the environment of a kind of text, which decides how values are escaped."""
    return MessageEnvironment(autoescape=is_html, finalize=_quote if is_url else _check_output)


def _check_output(value: object) -> object:
    """Return a value that people can read; raise `TypeError` for any other, such as None."""
    if not isinstance(value, str | int | float | Undefined):
        raise TypeError(f"gives a value of type {type(value).__name__}; expected text or a number")
    return value


def _quote(value: object) -> str:
    return quote(str(_check_output(value)), safe="")


def render_template(template: Template, values: Mapping[str, object]) -> str:
    """Return a template's text for some values.

    Raises:
        Exception: whatever goes wrong in it; `MessageTooLong` or `TooMuchWork` if it has no
            reasonable end.
    """
    pieces, length = [], 0
    limits = {"range": LimitedRange(), ALLOWANCE: Allowance()}
    for piece in template.generate({**values, **limits}):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_RENDERED_CHARACTERS:
            raise MessageTooLong(f"more than {MAX_RENDERED_CHARACTERS:,} characters")
    return "".join(pieces)
