"""A fog node's status for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from common.node.status_table import (
    Section,
    count,
    counts,
    duration,
    head_section,
    rate,
    size,
    store_facts,
    training_section,
)

__all__ = ["fog_sections"]


def fog_sections(status: Mapping[str, Any]) -> list[Section]:
    """The sections of a fog daemon's status."""
    plan = status["plan"]
    sentences = [plan["sentence"]] if plan.get("sentence") else []
    pinned = " (pinned by a setting)" if plan["pinned"] else ""
    return [
        head_section(status),
        _log(status),
        _encoding(status),
        _since_start(status),
        _devices(status),
        training_section(status["training"]),
        Section("plan", (("train at the", f"{plan['training'] or '-'}{pinned}"),), sentences=sentences),
        Section("what would change it", sentences=plan.get("would_change_it", ())),
    ]


def _log(status: Mapping[str, Any]) -> Section:
    encoded, oldest = status["encoded"], status["pending_oldest_s"]
    pending = count(status["frames_pending"])
    if oldest is not None:
        pending += (
            f", the oldest for {duration(oldest)}; {count(status['frames_in_encoders'])} with the encoders"
        )
    return Section(
        "log",
        (
            ("position", count(status["log_position"])),
            ("encoded", f"{count(encoded['packets'])} packets, {count(encoded['tombstones'])} tombstones"),
            ("waiting", pending),
            *store_facts(status),
            ("read again", _scrubbed(status)),
            ("last backup", _backup(status)),
        ),
    )


def _scrubbed(status: Mapping[str, Any]) -> str:
    scrub = status["scrub"]
    if scrub["bytes_per_s"] is None:
        return "-"
    last = scrub["last_pass_time"]
    whole = "" if last is None else f"; the whole log {duration(status['time'] - last)} ago"
    found = f"; {count(scrub['damaged'])} damaged" if scrub["damaged"] else ""
    return f"to find damage, up to position {count(scrub['position'])}{whole}{found}"


def _backup(status: Mapping[str, Any]) -> str:
    backup = status["last_backup"]
    if backup is None:
        return "-"
    return f"{duration(status['time'] - backup['time'])} ago, up to position {count(backup['position'])}"


def _encoding(status: Mapping[str, Any]) -> Section:
    encoded = status["encoded"]
    frames = encoded["packets"]
    share = encoded["reached_target"]
    sizes = "-"
    if frames:
        sizes = f"{size(encoded['packet_bytes'] / frames)}, {size(encoded['jpeg_bytes'] / frames)} as it came"
    states = Counter(str(worker["state"]) for worker in status["workers"])
    crashes = sum(worker["crashes"] for worker in status["workers"])
    workers = counts(states) + (f"; {crashes} crashes" if crashes else "")
    return Section(
        "encoding",
        (
            ("encoders", workers if status["workers"] else "none: frames only wait"),
            ("a frame", rate(encoded["encode_seconds_per_frame"], "s")),
            ("its packet", sizes),
            ("background PSNR", rate(encoded["background_psnr_db"], "dB")),
            ("object PSNR", rate(encoded["object_psnr_db"], "dB")),
            ("on target", "-" if share is None else f"{share:.1%}"),
        ),
    )


def _since_start(status: Mapping[str, Any]) -> Section:
    counters, wire = status["counters"], status["wire"]
    return Section(
        "since the start",
        (
            ("uploads", counts(counters["uploads"])),
            ("acknowledged", count(counters["acknowledged"])),
            ("refused uploads", counts(counters["refused"])),
            ("corrected labels", counts(counters["corrections"])),
            ("records sent", counts(counters["records_sent"])),
            ("errors told", counts(counters["errors"])),
            ("refused messages", count(wire["messages_refused"]) if wire["messages_refused"] else "-"),
            ("cut connections", count(wire["connections_cut"]) if wire["connections_cut"] else "-"),
        ),
    )


def _devices(status: Mapping[str, Any]) -> Section:
    peers, devices = status["peers"], status["devices"]
    rows = []
    for key in sorted(
        peers.keys() | devices.keys(), key=lambda key: (peers.get(key, {}).get("name", ""), key)
    ):
        peer, device = peers.get(key, {}), devices.get(key, {})
        held = peer.get("held_position")
        rows.append(
            (
                str(peer.get("name") or "-"),
                key[:8],
                "yes" if peer.get("connected") else "no",
                count(device.get("frames")),
                size(device.get("packet_bytes")),
                size(peer.get("bytes_up")),
                size(peer.get("bytes_down")),
                "-" if held is None else count(max(0, status["log_position"] - held)),
                count(peer.get("records_in_flight")),
                count(peer.get("credit_records")),
                _bound(peer),
                counts({what: peer.get(f"frames_{what}") or 0 for what in ("expired", "refused")}),
            )
        )
    columns = (
        "device",
        "key",
        "connected",
        "frames",
        "packets",
        "up",
        "down",
        "behind",
        "in flight",
        "credits",
        "bound",
        "left out",
    )
    return Section("devices", columns=columns, rows=rows)


def _bound(peer: Mapping[str, Any]) -> str:
    if not peer.get("download_hours", True):
        return "not at this hour"
    limit = peer.get("downlink_limit_bytes_per_s")
    return "-" if limit is None else f"{size(limit)}/s"
