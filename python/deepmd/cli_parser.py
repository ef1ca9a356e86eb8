"""The parser of `dp`: argparse with errors of one sentence, options that are refused by name, and backends."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from deepmd import __version__
from deepmd.errors import InputError
from deepmd.log import LEVELS, MPI_LOG
from deepmd.words import nearest

OWN_BACKENDS = ("pt", "pytorch")
OTHER_BACKENDS = {
    "tensorflow": ("--tf", "--tensorflow"),
    "tensorflow2": ("--tf2", "--tensorflow2"),
    "paddle": ("--pd", "--paddle"),
    "jax": ("--jax",),
    "dpmodel": ("--dp", "--dpmodel", "--np", "--numpy"),
    "pt-expt": ("--pt-expt", "--pytorch-exportable"),
}


@dataclass(frozen=True)
class Command:
    """One subcommand: where its function is (`module:function`), or why it is refused.

    `fixed` names options that are documented but not built, with the values that change nothing.
    """

    name: str
    help: str
    options: Callable[[Parser], None]
    target: str = ""
    refusal: str = ""
    parallel: bool = False
    fixed: dict[str, tuple[Any, ...]] = field(default_factory=dict)


class Parser(argparse.ArgumentParser):
    """argparse that raises InputError with one sentence in place of printing a usage."""

    commands: dict[str, Parser]

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}; see `{self.prog} -h`")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        what = action.option_strings[-1] if action.option_strings else (action.metavar or action.dest)
        choices = [str(one) for one in action.choices]
        near = nearest(str(value), choices)
        raise InputError(
            f"{self.prog}: {what}: got '{value}', expected one of {', '.join(choices)}"
            + (f"; did you mean '{near}'?" if near else f"; see `{self.prog} -h`")
        )


def whole(least: int) -> Callable[[str], int]:
    """A type of argument: a whole number from `least` on."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"got '{text}', expected a whole number from {least} on")
        return value

    return read


def positive(text: str) -> float:
    """A type of argument: a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"got '{text}', expected a number above 0")
    return value


def build(commands: Iterable[Command]) -> Parser:
    """The parser with all subcommands; `args.command` is the name of the chosen one."""
    parser = Parser(
        prog="dp",
        description="Deep Potential engine: train, freeze, test and run many-body potentials.",
        epilog="`dp COMMAND -h` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"deepmd-engine v{__version__}")
    backend = parser.add_mutually_exclusive_group()
    backend.add_argument(
        "-b", "--backend", metavar="NAME", help="accepted when NAME is pytorch (or pt), the only backend"
    )
    backend.add_argument(
        "--pt", "--pytorch", dest="backend", action="store_const", const="pytorch", help="accepted, changes nothing"
    )
    for name, flags in OTHER_BACKENDS.items():
        backend.add_argument(*flags, dest="backend", action="store_const", const=name, help=argparse.SUPPRESS)
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for command in commands:
        text = f"{command.help} (not built in this version)" if command.refusal else command.help
        sub = subparsers.add_parser(command.name, help=text, description=_sentence(text))
        command.options(sub)
        _log_options(sub, command.parallel)
    parser.commands = subparsers.choices
    return parser


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _log_options(parser: Parser, parallel: bool) -> None:
    group = parser.add_argument_group("messages")
    group.add_argument(
        "-v",
        "--log-level",
        choices=list(LEVELS),
        default="INFO",
        help="least weight of messages, by name or number (default: %(default)s)",
    )
    group.add_argument("-l", "--log-path", metavar="FILE", help="write messages to this file too")
    if parallel:
        group.add_argument(
            "-m",
            "--mpi-log",
            choices=MPI_LOG,
            default="master",
            help="which of several processes write messages (default: %(default)s)",
        )


def parse(argv: list[str] | None, commands: list[Command]) -> tuple[argparse.Namespace, Parser]:
    """Read the command line; what is unknown, misspelt, or documented and not built raises InputError."""
    parser = build(commands)
    args, unknown = parser.parse_known_args(argv)
    if args.backend is not None:
        check_backend(args.backend)
    if args.command is None:
        if unknown:
            _refuse_unknown(unknown[0], parser)
        return args, parser
    sub = parser.commands[args.command]
    if unknown:
        _refuse_unknown(unknown[0], sub)
    command = next(one for one in commands if one.name == args.command)
    if command.refusal:
        raise InputError(f"dp {command.name}: this documented command is not built in this version; {command.refusal}")
    for action in sub._actions:
        allowed = command.fixed.get(action.dest)
        value = getattr(args, action.dest, None)
        if allowed is not None and value not in allowed:
            flag = max(action.option_strings, key=len)
            raise InputError(
                f"{sub.prog}: {flag} got {value!r}, expected nothing, as this documented option is not built in this "
                "version; leave it out"
            )
    return args, parser


def _refuse_unknown(word: str, parser: Parser) -> NoReturn:
    name = word.partition("=")[0]
    known = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    near = nearest(name, known) if word.startswith("-") else None
    hint = f"did you mean '{near}'?" if near else f"see `{parser.prog} -h`"
    raise InputError(f"{parser.prog}: got '{word}', expected one of its own options and arguments; {hint}")


def check_backend(name: str) -> None:
    """PyTorch is accepted in any spelling; every other backend is refused."""
    if name.lower() not in OWN_BACKENDS:
        raise InputError(
            f"dp --backend: got '{name}', expected 'pytorch', as this engine has no other backend; leave the option out"
        )
