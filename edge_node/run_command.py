"""``edge-node run``: run the daemon."""

from __future__ import annotations

import argparse
from typing import Any

from common.cli import add_json
from common.node.commands import add_config

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("run", help="record, upload, receive and train until SIGTERM")
    parser.description = "Run the edge node until SIGTERM or Ctrl-C; it then drains and exits 0."
    add_config(parser, "configs/edge.yaml")
    add_json(parser)
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    from common.cli import print_json
    from common.node.core_dumps import refuse_core_dumps
    from common.node.logs import set_up_logging
    from common.node.settings import load_node_settings
    from edge_node.daemon import EdgeDaemon
    from edge_node.settings import EdgeSettings

    settings, base = load_node_settings(arguments.config, EdgeSettings)
    set_up_logging(settings, "edge-node")
    refuse_core_dumps()
    daemon = EdgeDaemon(settings, base)
    code = daemon.run()
    if arguments.json:
        print_json({"log_position": daemon.node.own.receiving.position})
    return code
