"""The command ``edge-node``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from common.cli import build_parser, run_command
from common.node.commands import add_keygen, add_status
from common.node.exit_codes import exit_code_help
from edge_node import (
    decode_command,
    doctor_command,
    export_command,
    inspect_command,
    salvage_command,
    train_command,
)
from edge_node import run_command as run_daemon_command
from edge_node.status_view import edge_sections

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``edge-node``; returns the exit code."""
    parser, subparsers = build_parser(
        "edge-node", "Record and upload frames, receive packets, train on them."
    )
    parser.epilog = exit_code_help()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    run_daemon_command.add_parser(subparsers)
    add_keygen(subparsers)
    add_status(subparsers, "configs/edge.yaml", _status, edge_sections)
    decode_command.add_parser(subparsers)
    export_command.add_parser(subparsers)
    inspect_command.add_parser(subparsers)
    train_command.add_parser(subparsers)
    doctor_command.add_parser(subparsers)
    salvage_command.add_parser(subparsers)
    return run_command(parser, argv)


def _status(config: str) -> dict[str, Any]:
    from common.node.settings import load_node_settings, resolve
    from common.node.status_file import read_status
    from edge_node.settings import EdgeSettings

    settings, base = load_node_settings(config, EdgeSettings)
    return read_status(resolve(base, settings.store))


if __name__ == "__main__":
    sys.exit(main())
