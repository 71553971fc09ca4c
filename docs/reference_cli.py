"""The command-line reference, rendered from the commands themselves."""

import inspect
from collections.abc import Iterator
from enum import Enum

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from simulator.cli.main import app

HEADER = """\
# Command line

Generated from the commands by `make docs`. [Exit codes](exit-codes.md) and
[environment variables](environment.md) have pages of their own. Results go to stdout, everything
else to stderr."""


def cli_reference() -> str:
    """Return docs/cli.md."""
    root = typer.main.get_command(app)
    if not isinstance(root, TyperGroup):
        raise TypeError("the command line has no sub-commands")
    lines = [HEADER]
    for name, command in _leaf_commands(root, "sendtrace"):
        lines += _command_lines(name, command)
    return "\n".join(lines) + "\n"


def _leaf_commands(group: TyperGroup, path: str) -> Iterator[tuple[str, TyperCommand]]:
    context = group.make_context(path, [], resilient_parsing=True)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, TyperGroup):
            yield from _leaf_commands(command, f"{path} {name}")
        elif isinstance(command, TyperCommand) and not command.hidden:
            yield f"{path} {name}", command


def _command_lines(name: str, command: TyperCommand) -> Iterator[str]:
    arguments = [each for each in command.params if isinstance(each, TyperArgument)]
    options = [each for each in command.params if isinstance(each, TyperOption)]
    metavars = (each.metavar or str(each.name).upper() for each in arguments)
    yield ""
    yield f"## {name}"
    yield ""
    yield f"`{' '.join([name, *metavars])}{' [OPTIONS]' if options else ''}`"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield ""
        yield paragraph
    if arguments or options:
        yield ""
        yield "| argument or option | meaning | default |"
        yield "|---|---|---|"
        for argument in arguments:
            metavar = argument.metavar or str(argument.name).upper()
            yield f"| `{metavar}` | {_escape_cell(argument.help)} | {_default(argument)} |"
        for option in options:
            names = ", ".join(f"`{flag}`" for flag in (*option.opts, *option.secondary_opts))
            yield f"| {names} | {_escape_cell(option.help)} | {_default(option)} |"


def _escape_cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def _default(parameter: TyperArgument | TyperOption) -> str:
    default = parameter.default
    if default is None or callable(default) or isinstance(default, bool | tuple | list):
        return ""
    return f"`{default.value if isinstance(default, Enum) else default}`"
