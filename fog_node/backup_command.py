"""``fog-node backup``, ``restore`` and ``salvage``: copies of the store, and back again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sized
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import add_json, print_json, progress
from common.node.commands import add_config

if TYPE_CHECKING:
    from common.store.backup import BackupSummary, Progress

__all__ = ["add_parsers"]

Copy = Callable[[Path, Path, "Progress"], "BackupSummary"]
"""(folder of the fog's store, the other folder, progress) -> what was copied."""


def add_parsers(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the commands."""
    backup = subparsers.add_parser("backup", help="copy the store, also of a running fog")
    backup.description = (
        "Copy the store of the fog with this configuration, which may be running, into an empty folder: the "
        "database as it stands at one moment with every file that it refers to, verified."
    )
    restore = subparsers.add_parser("restore", help="make the store of a backup")
    restore.description = (
        "Make the store of the fog with this configuration, which must not have one, of a backup. The log "
        "gets a new id: edges read it from its beginning and store each record once all the same. What the "
        "fog took after the backup is not in it."
    )
    salvage = subparsers.add_parser("salvage", help="back up what a damaged database still holds")
    salvage.description = (
        "Copy what can still be read of the damaged store of the fog with this configuration into an empty "
        "folder, as a backup to be restored; the store is not changed. Readers of the log are told what is "
        "lost."
    )
    for parser, folder, command in (
        (backup, "folder for the backup, new or empty", _backup),
        (restore, "folder of the backup", _restore),
        (salvage, "folder for the backup, new or empty", _salvage),
    ):
        add_config(parser, "configs/fog.yaml")
        parser.add_argument("folder", metavar="DIR", type=Path, help=folder)
        add_json(parser)
        parser.set_defaults(command=command)


def _backup(arguments: argparse.Namespace) -> int:
    from common.store.backup import back_up
    from fog_node.last_backup import note_backup

    def copy(store: Path, backup: Path, shown: Progress) -> BackupSummary:
        summary = back_up(store, backup, shown)
        note_backup(store, summary.position, summary.bytes)
        return summary

    return _copy(arguments, "backed up", copy)


def _restore(arguments: argparse.Namespace) -> int:
    from common.store.backup import restore

    return _copy(arguments, "restored", lambda store, backup, shown: restore(backup, store, shown))


def _salvage(arguments: argparse.Namespace) -> int:
    from common.store.salvage import salvage

    return _copy(arguments, "salvaged", salvage)


def _copy(arguments: argparse.Namespace, done: str, copy: Copy) -> int:
    from common.node.settings import load_node_settings, resolve
    from fog_node.settings import FogSettings

    settings, base = load_node_settings(arguments.config, FogSettings)

    def shown(files: Iterable[bytes]) -> Iterable[bytes]:
        total = len(files) if isinstance(files, Sized) else None
        return progress(files, total=total, title="files", quiet=arguments.json)

    summary = copy(resolve(base, settings.store), arguments.folder, shown)
    if arguments.json:
        print_json({**asdict(summary), "damaged": list(summary.damaged)})
        return 0
    sys.stdout.write(
        f"{done}: {summary.records} records up to position {summary.position}, {summary.frames} frames of "
        f"which {summary.waiting} wait to be encoded, {summary.files} files, {summary.bytes} bytes\n"
    )
    for sentence in summary.damaged:
        sys.stderr.write(f"damaged: {sentence}\n")
    return 0
