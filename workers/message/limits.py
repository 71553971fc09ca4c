"""Limit the work of a template, which could otherwise loop or double a text without end.

A template makes large values from small ones only if it uses a variable repeatedly, runs a loop, or
calls a filter that inserts one text into another many times. So each use of a variable costs the
size of its value, and each item of a loop the size of the loop's body.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from jinja2 import filters, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.visitor import NodeTransformer

MAX_WORK = 5_000_000
"""Characters, items of lists and steps of loops that one rendering of a part may use."""

ALLOWANCE = "sendtrace allowance"
"""Name of the `Allowance` in a template's context. No template can have a name with a space."""

USE_FILTER, LOOP_FILTER = "sendtrace use", "sendtrace loop"
"""Filters that `LimitInserter` inserts. No template can name them."""


class TooMuchWork(SecurityError):
    """A template does more than `MAX_WORK`."""


class Allowance:
    """The work that is left for one rendering."""

    def __init__(self) -> None:
        self._left = MAX_WORK

    def spend(self, work: int) -> None:
        """Take some work from the allowance; raise `TooMuchWork` if too little is left."""
        self._left -= work
        if self._left < 0:
            raise TooMuchWork(f"needs more than {MAX_WORK:,} characters and steps of loops")

    def spend_on(self, value: object) -> None:
        """Spend the size of a value, with everything that it contains."""
        values = [value]
        while values:
            value = values.pop()
            if isinstance(value, str):
                self.spend(len(value))
            elif isinstance(value, int):
                self.spend(value.bit_length())
            elif isinstance(value, Mapping):
                self.spend(1 + len(value))
                values += value.values()
            elif isinstance(value, list | tuple):
                self.spend(1 + len(value))
                values += value
            else:
                self.spend(1)


@pass_context
def use(context: Context, value: Any) -> Any:
    """Return the value of a variable, after its size is spent."""
    _get_allowance(context).spend_on(value)
    return value


@pass_context
def loop(context: Context, items: Iterable[Any], work: int) -> Iterator[Any]:
    """Yield the items of a loop; spend the work of the loop's body for each."""
    allowance = _get_allowance(context)
    for item in items:
        allowance.spend(work)
        yield item


@pass_context
def replace(context: Context, text: Any, old: Any, new: Any, count: int | None = None) -> str:
    """Replace a text by another one, after the size of the result is spent."""
    times = str(text).count(str(old))
    if count is not None and count >= 0:
        times = min(times, count)
    _get_allowance(context).spend(times * len(str(new)))
    return filters.do_replace(context.eval_ctx, text, old, new, count)


@pass_context
def join(
    context: Context, items: Iterable[Any], separator: Any = "", attribute: str | int | None = None
) -> str:
    """Join items to a text, after the size of the result is spent."""
    listed: Sequence[Any] = list(items)
    allowance = _get_allowance(context)
    allowance.spend(len(listed) * len(str(separator)))
    allowance.spend_on(listed)
    return filters.sync_do_join(context.eval_ctx, listed, separator, attribute)


LIMITED_FILTERS = {USE_FILTER: use, LOOP_FILTER: loop, "replace": replace, "join": join}
"""Filters that spend from the allowance."""


def _get_allowance(context: Context) -> Allowance:
    return cast(Allowance, context.resolve(ALLOWANCE))


class LimitInserter(NodeTransformer):
    """A change of a template's syntax tree: variables and loops spend from the allowance."""

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802 - jinja2 calls it
        """Spend the size of a variable's value whenever it is read."""
        return _apply(USE_FILTER, node) if node.ctx == "load" else node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802 - jinja2 calls it
        """Spend the size of a field or tag whenever it is read."""
        self.generic_visit(node)
        return _apply(USE_FILTER, node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802 - jinja2 calls it
        """Spend the size of a field or tag whenever it is read."""
        self.generic_visit(node)
        return _apply(USE_FILTER, node)

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2 calls it
        """Spend the size of the body for each item."""
        work = sum(map(_measure, node.find_all(nodes.Node)))
        self.generic_visit(node)
        node.iter = _apply(
            LOOP_FILTER, cast(nodes.Expr, node.iter), nodes.Const(work, lineno=node.lineno)
        )
        return node


def _measure(node: nodes.Node) -> int:
    """Return the work of one node of a loop's body."""
    match node:
        case nodes.TemplateData():
            return len(node.data)
        case nodes.Const():
            return len(str(node.value))
    return 1


def _apply(name: str, node: nodes.Expr, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
