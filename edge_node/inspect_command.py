"""``edge-node inspect``: what packets hold, without decoding them to pixels."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from common.bitstream import Background, ImageFile, Network, Packet, Pyramid, Reference
from common.bitstream.image_payload import encode_image
from common.bitstream.network_payload import encode_network
from common.bitstream.reference_payload import encode_reference
from common.cli import add_json, print_json
from common.errors import PacketError, PacketFormatError
from edge_node.packet_files import find_packets, read_packet

__all__ = ["add_parser", "describe"]


def add_parser(subparsers: Any) -> None:
    """Add ``inspect`` to the edge node's commands."""
    parser = subparsers.add_parser(
        "inspect", help="show what packets hold", description="Show what packets hold."
    )
    parser.add_argument("path", metavar="PATH", help="one .rinr packet or a folder of them")
    add_json(parser)
    parser.set_defaults(command=_inspect)


def _inspect(arguments: argparse.Namespace) -> int:
    described, damaged = [], []
    for file in find_packets(arguments.path):
        try:
            described.append(describe(file, read_packet(file)))
        except PacketError as error:
            damaged.append(str(error))
    if arguments.json:
        print_json({"packets": described})
    else:
        for entry in described:
            sys.stdout.write(_sentence(entry))
    if damaged:
        raise PacketFormatError(f"{len(damaged)} packets were passed over, the first because {damaged[0]}")
    return 0


def describe(path: Path, packet: Packet) -> dict[str, Any]:
    """One packet as plain values: sizes in pixels and bytes, boxes in coded pixels."""
    identity = packet.identity
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "profile": packet.profile,
        "width": packet.width,
        "height": packet.height,
        "labelled": packet.labelled,
        "validation": packet.validation,
        "source_digest": packet.source_digest.hex(),
        "identity": None
        if identity is None
        else {"device": identity.device, "epoch": identity.epoch, "number": identity.number},
        "boxes": [{"class": b.name, "x0": b.x0, "y0": b.y0, "x1": b.x1, "y1": b.y1} for b in packet.boxes],
        "background": _content(packet.background),
        "objects": [
            {"box": o.box, "residual_scale": o.residual_scale, **_content(o.content)} for o in packet.objects
        ],
    }


def _content(content: Background) -> dict[str, Any]:
    match content:
        case Network():
            size, count = f"{content.width}x{content.depth}", len(encode_network(content))
            return {"kind": "network", "size": size, "parameters": content.parameters, "bytes": count}
        case Pyramid():
            return {"kind": "pyramid", "size": f"step {content.step:.3g}", "bytes": len(content.data)}
        case ImageFile():
            return {"kind": content.codec, "size": content.codec, "bytes": len(encode_image(content))}
        case Reference():
            name = content.packet.hex()
            return {
                "kind": "reference",
                "size": f"of {name[:16]}",
                "keyframe": name,
                "moved": content.homography is not None or content.motion is not None,
                "updates": len(content.updates),
                "bytes": len(encode_reference(content)),
            }


def _sentence(entry: dict[str, Any]) -> str:
    objects = ", ".join(f"{o['size']} for box {o['box']}" for o in entry["objects"]) or "none"
    marks = [name for name in ("labelled", "validation") if entry[name]]
    background = entry["background"]
    return (
        f"{entry['file']}: {entry['bytes']:,} bytes, {entry['profile']}, {entry['width']}x{entry['height']}, "
        f"{', '.join(marks) or 'unlabelled'}, {len(entry['boxes'])} boxes; "
        f"background {background['size']} ({background['bytes']:,} bytes), objects {objects}\n"
    )
