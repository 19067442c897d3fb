"""Prometheus metrics of a fog node, made of its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.cost_model import Strategy
from common.node.metric_families import Families, node_families, training_families

__all__ = ["fog_families"]

WORKER_STATES = ("starting", "ready", "failed")
"""As :attr:`fog_node.worker_slot.WorkerSlot.state`."""


def fog_families(status: Mapping[str, Any]) -> Families:
    """The metric families of a fog daemon's status."""
    families = Families("residual_inr_fog")
    node_families(families, status)
    _frames(families, status)
    _wire(families, status)
    _peers(families, status)
    _workers(families, status["workers"])
    training_families(families, status["training"])
    plan = status["plan"]
    families.one_of("plan", "1 for where to train.", plan["training"], map(str, Strategy), "strategy")
    families.gauge("plan_pinned", "1 if that is pinned by a setting.", plan["pinned"])
    return families


def _frames(families: Families, status: Mapping[str, Any]) -> None:
    counters, encoded = status["counters"], status["encoded"]
    families.gauge("log_position", "Newest position of the log.", status["log_position"])
    families.gauge("frames_pending", "Committed frames that wait for their packet.", status["frames_pending"])
    text = "Seconds that the oldest of them has waited, of those before the start since then; 0 without any."
    families.gauge("frames_pending_oldest_seconds", text, status["pending_oldest_s"] or 0.0)
    text = "Those of them that are held by the encoders."
    families.gauge("frames_in_encoders", text, status["frames_in_encoders"])
    text = "Uploads committed by outcome; duplicate: sent again, and acknowledged again."
    families.counters("uploads", text, counters["uploads"], "outcome")
    families.counter("acknowledgements", "Frames acknowledged.", counters["acknowledged"])
    families.counters("uploads_refused", "Uploads refused by code.", counters["refused"], "code")
    text = "Corrected labels answered, by code; ok: on disk."
    families.counters("corrections", text, counters["corrections"], "code")
    families.counters("frames_encoded", "Records written of frames.", counters["encoded"], "kind")
    text = "Packets whose background and every box reached the target."
    families.counter("packets_on_target", text, counters["on_target"])
    text = "Bytes of encoded frames as they came."
    families.counter("encoded_jpeg_bytes", text, counters["jpeg_bytes"])
    text = "Bytes of their packets."
    families.counter("encoded_packet_bytes", text, counters["packet_bytes"])
    if status["last_backup"] is not None:
        text = "When the store was last backed up, seconds since 1970."
        families.gauge("last_backup_timestamp_seconds", text, status["last_backup"]["time"])
        text = "Newest position of the log in that backup."
        families.gauge("last_backup_position", text, status["last_backup"]["position"])
    scrub = status["scrub"]
    families.counter("scrub_bytes", "Payload bytes of the log read again to find damage.", scrub["bytes"])
    families.counter("scrub_damaged", "Items that were found damaged by that.", scrub["damaged"])
    if scrub["last_pass_time"] is not None:
        text = "When the whole log was last read again, seconds since 1970."
        families.gauge("scrub_last_pass_timestamp_seconds", text, scrub["last_pass_time"])
    families.gauge("log_packets", "Packets in the log, of earlier runs too.", encoded["packets"])
    families.gauge("log_tombstones", "Tombstones in the log, of earlier runs too.", encoded["tombstones"])


def _wire(families: Families, status: Mapping[str, Any]) -> None:
    counters, wire = status["counters"], status["wire"]
    families.counters("messages_received", "Messages by type.", counters["messages_received"], "type")
    families.counters("messages_sent", "Messages by type.", counters["messages_sent"], "type")
    families.counters("records_sent", "Records by kind.", counters["records_sent"], "kind")
    families.counters("errors_sent", "Errors told to edges, by code.", counters["errors"], "code")
    text = "Messages that could not be decoded."
    families.counter("messages_refused", text, wire["messages_refused"])
    text = "Connections cut because their device overstepped its bounds or lost its right."
    families.counter("connections_cut", text, wire["connections_cut"])
    families.gauge("connections", "TCP connections.", wire["connections"])
    connected = sum(bool(peer["connected"]) for peer in status["peers"].values())
    families.gauge("peers_connected", "Edges with a session.", connected)
    families.gauge("store_failing", "1 while uploads cannot be committed.", bool(status["store_problem"]))


def _peers(families: Families, status: Mapping[str, Any]) -> None:
    """Keys stand on the allow list, which bounds the number of these series."""
    for key, peer in status["peers"].items():
        labels = {"device": key, "name": str(peer.get("name", ""))}
        text = "1 while this edge has a session."
        families.gauge("peer_connected", text, peer["connected"], **labels)
        text = "Bytes from this edge."
        families.counter("peer_received_bytes", text, peer.get("bytes_up"), **labels)
        text = "Bytes to this edge."
        families.counter("peer_sent_bytes", text, peer.get("bytes_down"), **labels)
        text = "Packet bytes among those."
        families.counter("peer_sent_packet_bytes", text, peer.get("bytes_packets_down"), **labels)
        held = peer.get("held_position")
        behind = None if held is None else max(0, status["log_position"] - held)
        text = "Positions of the log that this edge has not confirmed to hold."
        families.gauge("peer_positions_behind", text, behind, **labels)
        text = "Records on their way to this edge."
        families.gauge("peer_records_in_flight", text, peer.get("records_in_flight"), **labels)
        text = "Records that this edge may be sent now."
        families.gauge("peer_credit_records", text, peer.get("credit_records"), **labels)
        text = "Payload bytes that this edge may be sent now."
        families.gauge("peer_credit_bytes", text, peer.get("credit_bytes"), **labels)
        text = "1 while this edge may be sent records and content."
        families.gauge("peer_download_hours", text, peer.get("download_hours"), **labels)
        text = "Bytes a second that this edge is sent at most; absent without a bound."
        limit = peer.get("downlink_limit_bytes_per_s")
        families.gauge("peer_downlink_limit_bytes_per_second", text, limit, **labels)
        text = "Frames that this edge recorded and dropped after their time to live, as it reports."
        families.gauge("peer_frames_expired", text, peer.get("frames_expired"), **labels)
        text = "Frames that this edge recorded and a fog refused for good, as it reports."
        families.gauge("peer_frames_refused", text, peer.get("frames_refused"), **labels)
        text = "Bytes a second measured towards this edge."
        families.gauge("peer_downlink_bytes_per_second", text, peer.get("downlink_bytes_per_s"), **labels)


def _workers(families: Families, workers: list[Mapping[str, Any]]) -> None:
    for number, worker in enumerate(workers):
        labels = {"worker": str(number), "host": str(worker.get("host") or "")}
        for state in WORKER_STATES:
            text = "1 for the present state of an encoder."
            families.gauge("encoder_state", text, worker["state"] == state, **labels, state=state)
        families.counter("encoder_crashes", "Times an encoder ended unasked.", worker["crashes"], **labels)
