"""``fog-node serve``: run the daemon."""

from __future__ import annotations

import argparse
from typing import Any

from common.cli import add_json
from common.node.commands import add_config

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("serve", help="receive, encode, store and serve frames until SIGTERM")
    parser.description = "Run the fog node until SIGTERM or Ctrl-C; it then drains and exits 0."
    add_config(parser, "configs/fog.yaml")
    add_json(parser)
    parser.set_defaults(command=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    from common.cli import print_json
    from common.node.core_dumps import refuse_core_dumps
    from common.node.logs import set_up_logging
    from common.node.settings import load_node_settings
    from fog_node.daemon import FogDaemon
    from fog_node.settings import FogSettings

    settings, base = load_node_settings(arguments.config, FogSettings)
    set_up_logging(settings, "fog-node")
    refuse_core_dumps()
    daemon = FogDaemon(settings, base)
    code = daemon.run()
    if arguments.json:
        print_json({"log_position": daemon.node.last_position, "port": daemon.port})
    return code
