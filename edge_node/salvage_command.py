"""``edge-node salvage``: a store to go on with, of what a damaged one still holds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common.cli import add_json, print_json, progress
from common.node.commands import add_config

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("salvage", help="save what a damaged database still holds of the outbox")
    parser.description = (
        "Make a store, in an empty folder, of what can still be read of the damaged store of the edge with "
        "this configuration: the frames that the fog does not have yet, and which it has, so that no source "
        "is recorded twice. The damaged store is not changed; put the new folder in its place. What was "
        "received is pulled again."
    )
    add_config(parser, "configs/edge.yaml")
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder for the new store, new or empty")
    add_json(parser)
    parser.set_defaults(command=_salvage)


def _salvage(arguments: argparse.Namespace) -> int:
    from common.node.settings import load_node_settings, resolve
    from common.store.edge_salvage import Row, salvage_edge
    from edge_node.settings import EdgeSettings

    settings, base = load_node_settings(arguments.config, EdgeSettings)

    def shown(rows: Iterable[Row]) -> Iterable[Row]:
        return progress(rows, total=None, title="frames", quiet=arguments.json)

    store = resolve(base, settings.store)
    found = salvage_edge(store, arguments.folder, shown)
    if arguments.json:
        print_json({**asdict(found), "damaged": list(found.damaged)})
        return 0
    sys.stdout.write(
        f"salvaged: {found.frames} recorded frames, of which {found.waiting} ({found.waiting_bytes} bytes) "
        f"wait for the fog, and {found.corrections} corrected labels; now move {store} away and "
        f"{arguments.folder} to its place\n"
    )
    for sentence in found.damaged:
        sys.stderr.write(f"damaged: {sentence}\n")
    return 0
