"""The commands keygen and status, which both nodes have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.cli import add_json, print_json
from common.errors import ResidualInrError

__all__ = ["add_config", "add_keygen", "add_status"]

StatusReader = Callable[[str], dict[str, Any]]
"""From the path of a configuration to the node's status."""


def add_config(parser: argparse.ArgumentParser, example: str) -> None:
    """The option --config."""
    parser.add_argument(
        "--config", required=True, metavar="FILE", help=f"configuration of the node, such as {example}"
    )


def add_keygen(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The command keygen."""
    parser = subparsers.add_parser("keygen", help="make the node's keys on this machine")
    parser.description = "Make the node's CURVE keys: public.key to be shown around, secret.key to stay here."
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder for the two key files")
    add_json(parser)
    parser.set_defaults(command=_keygen)


def _keygen(arguments: argparse.Namespace) -> int:
    from common.wire import keys

    pair = keys.generate(arguments.folder)
    if arguments.json:
        print_json({"public_key": pair.public, "folder": str(arguments.folder)})
    else:
        sys.stdout.write(pair.public + "\n")
        sys.stderr.write(f"keys are in {arguments.folder}; the line above is the public key to show around\n")
    return 0


def add_status(subparsers: argparse._SubParsersAction[Any], example: str, read: StatusReader) -> None:
    """The command status.

    Args:
        subparsers: As :func:`common.cli.build_parser` gives them.
        example: Path of the shipped configuration.
        read: Gives the status.
    """
    parser = subparsers.add_parser("status", help="what the node on this machine is doing")
    parser.description = "Read the status file of the node with this configuration; exits 1 unless it runs."
    add_config(parser, example)
    add_json(parser)

    def command(arguments: argparse.Namespace) -> int:
        status = read(arguments.config)
        if arguments.json:
            print_json(status)
        else:
            sys.stdout.write("\n".join(_lines(status, "")) + "\n")
        if status["alive"]:
            return 0
        raise ResidualInrError(f"the node of {arguments.config} is not running; this is how it stood last")

    parser.set_defaults(command=command)


def _lines(value: dict[str, Any], indent: str) -> list[str]:
    """The status as indented lines, one figure a line."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            for number, entry in enumerate(item):
                lines += [f"{indent}{key} {number}:", *_lines(entry, indent + "  ")]
        elif isinstance(item, list) and item and isinstance(item[0], str):
            lines += [f"{indent}{key}:", *(f"{indent}  - {sentence}" for sentence in item)]
        else:
            text = "-" if item is None or item in ({}, []) else item
            if isinstance(text, float):
                text = f"{text:.0f}" if abs(text) >= 1e6 else f"{text:.6g}"
            lines.append(f"{indent}{key}: {text}")
    return lines
