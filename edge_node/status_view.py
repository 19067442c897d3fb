"""An edge node's status for people."""

from __future__ import annotations

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

__all__ = ["edge_sections"]


def edge_sections(status: Mapping[str, Any]) -> list[Section]:
    """The sections of an edge daemon's status."""
    plan = status["plan"]
    speed = (
        ("decoding", rate(status["decode_frames_per_s"], "frames/s")),
        ("training", rate(status["training_frames_per_s"], "frames/s")),
    )
    return [
        head_section(status),
        _recording(status),
        _inbox(status),
        _fogs(status),
        training_section(status["training"], speed),
        Section(
            "plan",
            (("train at the", "-" if plan is None else str(plan["strategy"])),),
            sentences=[] if plan is None else [plan["sentence"]],
        ),
    ]


def _recording(status: Mapping[str, Any]) -> Section:
    recording, outbox, traffic = status["recording"], status["outbox"], status["traffic"]
    waiting = f"{count(outbox['waiting'])} frames, {size(outbox['waiting_bytes'])}"
    if outbox["oldest_s"] is not None:
        waiting += f", the first for {duration(outbox['oldest_s'])}"
    left = {"refused": outbox["refused"], "expired": outbox["expired"], "skipped": recording["skipped"]}
    return Section(
        "recording",
        (
            ("state", " ".join((recording["state"], recording["source"])).strip()),
            (
                "recorded",
                f"{count(outbox['recorded'])}, of which the fog has {count(outbox['acknowledged'])}",
            ),
            ("waiting", waiting),
            ("left out", counts(left)),
            ("corrected labels", count(recording["corrected"]) if recording["corrected"] else "-"),
            ("hours", "-" if traffic["upload_hours"] else "no uploads at this hour"),
        ),
    )


def _inbox(status: Mapping[str, Any]) -> Section:
    waiting = status["waiting_for_keyframe"]
    return Section(
        "received",
        (
            ("records", counts(status["inbox"])),
            ("wait for a keyframe", count(waiting) if waiting else "-"),
            ("validation originals", count(status["originals_fetched"])),
            *store_facts(status),
        ),
    )


def _fogs(status: Mapping[str, Any]) -> Section:
    rows = []
    for fog in status["fogs"]:
        counters = fog["counters"]
        rows.append(
            (
                fog["fog"] + (" (own)" if fog["own"] else ""),
                fog["connection"],
                size(fog["bytes_up"]),
                size(fog["bytes_down"]),
                count(fog["log_position"]),
                count(counters["acknowledged"]),
                counts(counters["refused"]),
                count(counters["duplicates"]),
                count(counters["gap_records"]),
            )
        )
    columns = ("fog", "connection", "up", "down", "position", "acknowledged", "refused", "again", "missed")
    return Section("fogs", columns=columns, rows=rows)
