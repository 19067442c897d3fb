"""The command ``fog-node``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from common.cli import build_parser, run_command
from common.node.commands import add_keygen, add_status
from common.node.exit_codes import exit_code_help
from fog_node import allow_command, backup_command, encode_command, serve_command
from fog_node.status_view import fog_sections

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``fog-node``; returns the exit code."""
    parser, subparsers = build_parser("fog-node", "Receive frames, encode them compactly, serve them.")
    parser.epilog = exit_code_help()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    serve_command.add_parser(subparsers)
    encode_command.add_parser(subparsers)
    add_keygen(subparsers)
    allow_command.add_parser(subparsers)
    add_status(subparsers, "configs/fog.yaml", _status, fog_sections)
    backup_command.add_parsers(subparsers)
    return run_command(parser, argv)


def _status(config: str) -> dict[str, Any]:
    from common.node.settings import load_node_settings, resolve
    from common.node.status_file import read_status
    from fog_node.settings import FogSettings

    settings, base = load_node_settings(config, FogSettings)
    return read_status(resolve(base, settings.store))


if __name__ == "__main__":
    sys.exit(main())
