"""How every command behaves: exit codes, one-sentence errors, --json, --debug, progress."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from common import __version__
from common.errors import ResidualInrError, UsageError, reason

__all__ = [
    "Command",
    "add_json",
    "build_parser",
    "make_folder",
    "print_json",
    "progress",
    "run_command",
    "yield_while_waiting",
]

T = TypeVar("T")
Command = Callable[[argparse.Namespace], int]
"""Runs one subcommand and returns its exit code."""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one sentence with exit code 2."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}; see '{self.prog} --help'\n")
        raise SystemExit(UsageError.exit_code)


def build_parser(
    prog: str, description: str
) -> tuple[argparse.ArgumentParser, argparse._SubParsersAction[Any]]:
    """A parser with --version and subcommands.

    Each subcommand sets ``command`` (a :data:`Command`) by ``parser.set_defaults``.
    """
    parser = _Parser(prog=prog, description=description)
    parser.add_argument("--version", action="version", version=f"{prog} {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=_Parser)
    return parser, subparsers


def add_json(parser: argparse.ArgumentParser) -> None:
    """The options that every subcommand takes: --json, --debug and --version."""
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"{parser.prog.split()[0]} {__version__}")


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse and run; 0 success, 1 failure, 2 wrong usage or configuration, 130 on Ctrl-C.

    Errors are one sentence on stderr; a traceback only with --debug.
    """
    arguments = parser.parse_args(argv)
    command: Command = arguments.command
    yield_while_waiting()
    try:
        return command(arguments)
    except ResidualInrError as error:
        return _fail(parser.prog, str(error), error.exit_code, arguments)
    except KeyboardInterrupt:
        return _fail(parser.prog, "stopped by Ctrl-C", 130, arguments)
    except BrokenPipeError:
        # The reader of stdout has gone, as in `... | head`; keep the interpreter's exit quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(parser.prog, f"{place}{reason(error)}", 1, arguments)
    except Exception as error:  # the last line of defence: never a traceback at a user
        sentence = f"unexpected {type(error).__name__}: {error}; run with --debug for the traceback"
        return _fail(parser.prog, sentence, 1, arguments)


def make_folder(path: str | Path) -> Path:
    """The folder ``path``, made with its parents when it is missing.

    Raises:
        UsageError: It cannot be made, because a file is in the way or for lack of rights.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (
            "a file is in the way"
            if isinstance(error, FileExistsError | NotADirectoryError)
            else error.strerror
        )
        raise UsageError(f"cannot make the folder {folder}: {reason}") from error
    return folder


def yield_while_waiting() -> None:
    """Let threads of this process and its children not spin while they wait for one another.

    By default they spin, and where another program wants a core they spin on its time: on two cores with one
    busy neighbour a step of fitting took 430 ms, against 15 ms with this, and about as long without a
    neighbour (9 to 10 ms). numpy's OpenBLAS spins as well and knows no other way than one thread, which is
    enough for its small products here: four frames of profile pyramid took 59 s beside busy neighbours, 12 s
    with this. They are read when torch and numpy are first imported; a user's own values are kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _fail(prog: str, sentence: str, code: int, arguments: argparse.Namespace) -> int:
    if getattr(arguments, "debug", False):
        traceback.print_exc()
    sys.stderr.write(f"{prog}: {' '.join(sentence.split())}\n")
    return code


def print_json(value: dict[str, Any]) -> None:
    """Print exactly one JSON object on stdout; NaN is refused, since it is not JSON."""
    sys.stdout.write(json.dumps(value, allow_nan=False) + "\n")
    sys.stdout.flush()


def progress(items: Iterable[T], *, total: int | None, title: str, quiet: bool = False) -> Iterable[T]:
    """Iterate with a progress bar on stderr when it is a terminal, else silently."""
    if quiet or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, total=total, description=title, console=Console(stderr=True))
