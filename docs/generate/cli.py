"""The page of the command line, from the functions of the verbs: `funnelcast VERB --help` says the same."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from docs.generate.docstrings import as_markdown, escaped
from funnelcast.cli.main import app

_HEAD = """# Command line

Generated from the code by `scripts/docs --write`; do not edit.

Every verb prints its result on the standard output and its progress on the standard error. The exit status is 0 on
success, 2 for a mistake of the user, whose message names the value, the rule and the fix, and 1 for anything else.
`funnelcast VERB --help` prints what this page says of a verb. `funnelcast --install-completion` lets the shell complete
verbs and options: bash, zsh, fish or PowerShell.
"""
_KINDS: dict[Any, str] = {Path: "PATH", str: "TEXT", int: "INTEGER", float: "NUMBER"}


def cli_page() -> str:
    """Return the page as Markdown: a section for each verb."""
    return "\n".join([_HEAD, *_commands(app, "funnelcast")])


def _commands(group: typer.Typer, prefix: str) -> Iterator[str]:
    for command in group.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        yield from _command(f"{prefix} {name}", command.callback)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from _commands(inner.typer_instance, f"{prefix} {inner.name}")


def _command(title: str, verb: Callable[..., Any]) -> Iterator[str]:
    parameters = [_Parameter(p, get_type_hints(verb, include_extras=True)[n]) for n, p in _parameters(verb)]
    yield f"## {title}\n"
    yield f"```text\n{' '.join([title, *(p.usage for p in parameters if p.usage), '[OPTIONS]'])}\n```\n"
    text = re.sub(r"\\?\[bold\\?\](.*?)\\?\[/\\?\]", r"`\1`", inspect.getdoc(verb) or "")
    yield f"{as_markdown(text)}\n"
    yield "| | value | default | |"
    yield "|---|---|---|---|"
    yield from (f"| {p.names} | {p.kind} | {p.default} | {p.help} |" for p in parameters)
    yield ""


def _parameters(verb: Callable[..., Any]) -> list[tuple[str, inspect.Parameter]]:
    return list(inspect.signature(verb).parameters.items())


class _Parameter:
    """An argument or an option as its row of the table."""

    def __init__(self, parameter: inspect.Parameter, annotation: Any) -> None:
        assert get_origin(annotation) is Annotated, f"{parameter.name} has no help"
        self._type, self._info = get_args(annotation)[:2]
        self._is_required = parameter.default is inspect.Parameter.empty
        self._parameter = parameter
        assert isinstance(self._info, (ArgumentInfo, OptionInfo))

    @property
    def _is_option(self) -> bool:
        return isinstance(self._info, OptionInfo)

    @property
    def _flags(self) -> list[str]:
        first, others = self._info.default, self._info.param_decls or ()  # typer takes the first flag as a default
        if declared := [flag for flag in (first, *others) if isinstance(flag, str)]:
            return [flag for name in declared for flag in name.split("/")]
        flag = self._parameter.name.replace("_", "-")
        return [f"--{flag}", f"--no-{flag}"] if self._type is bool else [f"--{flag}"]

    @property
    def usage(self) -> str:
        """What stands in the usage line; nothing for an option that may be left out."""
        if self._is_option:
            return f"{self._flags[0]} {_kind(self._type)}" if self._is_required else ""
        name = self._parameter.name.upper()
        return name if self._is_required else f"[{name}]"

    @property
    def names(self) -> str:
        """The flags of an option, the name of an argument."""
        if self._is_option:
            return ", ".join(f"`{flag}`" for flag in self._flags)
        return f"`{self._parameter.name.upper()}`"

    @property
    def kind(self) -> str:
        """The kind of value, with its range."""
        bounds = [f"≥ {self._info.min}"] if self._info.min is not None else []
        bounds += [f"≤ {self._info.max}"] if self._info.max is not None else []
        return " ".join([_kind(self._type), *bounds])

    @property
    def default(self) -> str:
        """The default as it is typed."""
        value = self._parameter.default
        if self._is_required:
            return "required"
        if isinstance(value, bool):
            return f"`{self._flags[0]}`" if value else "off"
        return "" if value is None or value == [] else f"`{value}`"

    @property
    def help(self) -> str:
        """The sentence in the code."""
        return escaped(re.sub(r"\[bold\](.*?)\[/\]", r"`\1`", " ".join((self._info.help or "").split())))


def _kind(annotation: Any) -> str:
    """Return the name of a type on the command line; several of it where it is a list."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = [own for own in get_args(annotation) if own is not NoneType]
    if get_origin(annotation) is list:
        return f"{_kind(get_args(annotation)[0])}, may be repeated"
    if annotation is bool:
        return ""
    return _KINDS.get(annotation) or _choices(annotation)


def _choices(annotation: Any) -> str:
    return " or ".join(f"`{getattr(choice, 'value', choice)}`" for choice in get_args(annotation) or annotation)
