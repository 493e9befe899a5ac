"""What an option is called outside of the command line: its variable and its configuration key.

Both follow from the words of its command and from its longest name, never from the name of the
variable that holds it in the code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import typer

from ledger.errors import UsageError

PREFIX: Final = "DECISION_LEDGER"
ENDING: Final = frozenset({"version", "install_completion", "show_completion"})
"""Options that answer at once and end the program: nobody would set them for every call."""


def command_of(app: typer.Typer) -> Any:
    """The program as one command object; every option knows its variable."""
    command = typer.main.get_command(app)
    for words, inner in (((), command), *commands(command)):
        for option in filter(is_setting, inner.params):
            option.envvar = variable(words, option)
    return command


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it, in the order of the program."""
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    if not inner:
        yield words, command
    for name, part in inner.items():
        yield from commands(part, (*words, name))


def is_option(parameter: Any) -> bool:
    """Whether it is an option, and no argument."""
    return bool(parameter.param_type_name == "option" and parameter.name != "help")


def is_setting(parameter: Any) -> bool:
    """Whether it is an option that has a variable and a key: not one that only answers and ends."""
    return is_option(parameter) and parameter.name not in ENDING


def long_name(option: Any) -> str:
    """The option's longest name, without its dashes: `batch-rows`."""
    return max((str(name).lstrip("-") for name in option.opts), key=len)


def variable(words: tuple[str, ...], option: Any) -> str:
    """The environment variable that sets an option."""
    if option.envvar:
        return str(option.envvar if isinstance(option.envvar, str) else option.envvar[0])
    return "_".join([PREFIX, *words, long_name(option)]).replace("-", "_").upper()


def config_key(words: tuple[str, ...], option: Any) -> str:
    """The option's place in the configuration file."""
    return ".".join([*words, long_name(option)])


def defaults(command: Any, config: Mapping[str, Any], file: str, place: str = "") -> dict[str, Any]:
    """The parser's defaults from a configuration file; `batch_rows` means `batch-rows`.

    Raises UsageError for a key that names no option and no command.
    """
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    options = {long_name(option): option.name for option in filter(is_setting, command.params)}
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = key.replace("_", "-")
        if name in inner and isinstance(value, dict):
            found[name] = defaults(inner[name], value, file, f"{place}{name}.")
        elif name in options and not isinstance(value, dict):
            found[options[name]] = value
        else:
            known = ", ".join([*options, *(f"[{place}{one}]" for one in inner)])
            raise UsageError(f"{file} has an unknown setting {place}{key}.", f"Known there: {known}.")
    return found
