"""``fog-node allow``: let a device in, or change what it may do."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from common.cli import add_json, print_json

__all__ = ["add_parser"]


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = subparsers.add_parser("allow", help="let the device with this public key in")
    parser.description = (
        "Write a device into the allow list, replacing its entry. A running fog notices within seconds. "
        "To shut a device out again, remove its entry from the file."
    )
    parser.add_argument(
        "key", metavar="PUBKEY", help="the device's public key, or the path of its public.key"
    )
    parser.add_argument("--may-upload", action="store_true", help="it may upload frames")
    parser.add_argument(
        "--may-subscribe",
        metavar="KEY,...",
        default="",
        help="devices whose records it may receive: public keys separated by commas, or * for all",
    )
    parser.add_argument("--name", default="", help="a name for people")
    parser.add_argument(
        "--downlink-bytes-per-s",
        metavar="N",
        type=float,
        help="bytes of records and content that it is sent a second (default: traffic of the configuration)",
    )
    parser.add_argument(
        "--download-window",
        metavar="WINDOW",
        dest="download_windows",
        action="append",
        help="local time at which it is sent them, such as '22:00-06:00' or 'sat,sun 00:00-24:00'; may be "
        "repeated (default: traffic of the configuration)",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--config", metavar="FILE", help="the fog's configuration, which names the list")
    place.add_argument(
        "--list", metavar="FILE", default="allow.yaml", help="the list itself (default: allow.yaml here)"
    )
    add_json(parser)
    parser.set_defaults(command=_allow)


def _allow(arguments: argparse.Namespace) -> int:
    from common.node.settings import load_node_settings, resolve
    from common.wire.allow_list import AllowList, Device
    from common.wire.keys import check_public_key
    from fog_node.settings import FogSettings

    path = Path(arguments.list)
    if arguments.config is not None:
        settings, base = load_node_settings(arguments.config, FogSettings)
        path = resolve(base, settings.allow_list)
    names = [part.strip() for part in arguments.may_subscribe.split(",") if part.strip()]
    subscribe = tuple(name if name == "*" else check_public_key(read_key(name)) for name in names)
    windows = arguments.download_windows
    device = Device(
        check_public_key(read_key(arguments.key)),
        arguments.may_upload,
        subscribe,
        arguments.name,
        arguments.downlink_bytes_per_s,
        None if windows is None else tuple(windows),
    )
    AllowList(path).add(device)
    if arguments.json:
        print_json(
            {
                "key": device.key,
                "may_upload": device.may_upload,
                "may_subscribe": list(subscribe),
                "downlink_bytes_per_s": device.downlink_bytes_per_s,
                "download_windows": windows,
                "list": str(path),
            }
        )
    else:
        rights = " and ".join(
            [
                *(["upload"] if device.may_upload else []),
                *([f"receive from {', '.join(subscribe)}"] if subscribe else []),
            ]
        )
        sys.stdout.write(f"{device.key} may now {rights or 'connect and receive detectors'} ({path})\n")
    return 0


def read_key(text: str) -> str:
    """The key itself, or what the file of this name holds."""
    if len(text.strip()) == 40:
        return text
    path = Path(text)
    return path.read_text(encoding="ascii", errors="replace") if path.is_file() else text
