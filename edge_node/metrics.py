"""Prometheus metrics of an edge node, made of its status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.cost_model import Strategy
from common.node.metric_families import Families, node_families, training_families

__all__ = ["edge_families"]

RECORDER_STATES = ("waiting", "recording", "full", "watching", "done", "stopped")
"""As :attr:`edge_node.recorder.RecorderStatus.state`."""


def edge_families(status: Mapping[str, Any]) -> Families:
    """The metric families of an edge daemon's status."""
    families = Families("residual_inr_edge")
    node_families(families, status)
    _recording(families, status)
    _inbox(families, status)
    for fog in status["fogs"]:
        _fog(families, fog)
    training_families(families, status["training"])
    text = "Frames a second decoded in the newest round trained here."
    families.gauge("decode_frames_per_second", text, status["decode_frames_per_s"])
    text = "Frames a second trained on in that round."
    families.gauge("training_frames_per_second", text, status["training_frames_per_s"])
    plan = status["plan"] or {"strategy": None, "train": None}
    text = "1 for where to train, as the fog says."
    families.one_of("plan", text, plan["strategy"], map(str, Strategy), "strategy")
    return families


def _recording(families: Families, status: Mapping[str, Any]) -> None:
    recording, outbox = status["recording"], status["outbox"]
    text = "1 for what the recorder does."
    families.one_of("recorder_state", text, recording["state"], RECORDER_STATES, "state")
    families.counter("frames_skipped", "Frames that could not be read or uploaded.", recording["skipped"])
    families.counter("labels_corrected", "Frames whose labels were corrected.", recording["corrected"])
    families.gauge("outbox_recorded", "Frames recorded, of earlier runs too.", outbox["recorded"])
    families.gauge("outbox_frames", "Frames that wait for the fog.", outbox["waiting"])
    families.gauge("outbox_bytes", "Their image bytes.", outbox["waiting_bytes"])
    text = "Seconds that the frame has waited which was recorded first, since the start at most; 0 without."
    families.gauge("outbox_oldest_seconds", text, outbox["oldest_s"] or 0.0)
    families.gauge("outbox_acknowledged", "Frames the fog has, of earlier runs too.", outbox["acknowledged"])
    families.gauge("outbox_refused", "Frames refused for good, of earlier runs too.", outbox["refused"])
    text = "Frames that were dropped by age, of earlier runs too."
    families.gauge("outbox_expired", text, outbox["expired"])
    took, text = outbox["acknowledgement"], "From sending a frame to the fog's word, newest uploads."
    families.gauge("acknowledgement_seconds", text, took["median_s"], quantile="0.5")
    families.gauge("acknowledgement_seconds", text, took["p95_s"], quantile="0.95")
    families.gauge("upload_hours", "1 while frames may be uploaded.", status["traffic"]["upload_hours"])
    text = "Bytes a second measured towards the fog."
    families.gauge("uplink_bytes_per_second", text, status["uplink_bytes_per_s"])


def _inbox(families: Families, status: Mapping[str, Any]) -> None:
    for kind, count in status["inbox"].items():
        families.gauge("inbox_records", "Records received and stored, of earlier runs too.", count, kind=kind)
    text = "Packets that wait for their keyframe."
    families.gauge("waiting_for_keyframe", text, status["waiting_for_keyframe"])
    text = "Validation originals of other devices held."
    families.gauge("originals_fetched", text, status["originals_fetched"])


def _fog(families: Families, fog: Mapping[str, Any]) -> None:
    counters, labels = fog["counters"], {"fog": str(fog["fog_key"])}
    text = "1 while there is a session with this fog."
    families.gauge("fog_connected", text, fog["connection"] == "open", **labels)
    families.gauge("fog_own", "1 if this device belongs to this fog.", fog["own"], **labels)
    families.counter(
        "sessions", "Sessions begun; all but the first are repeated.", counters["sessions"], **labels
    )
    families.counter("sent_bytes", "Bytes to this fog.", fog["bytes_up"], **labels)
    families.counter("received_bytes", "Bytes from this fog.", fog["bytes_down"], **labels)
    families.gauge("log_position", "Position of its log held here.", fog["log_position"], **labels)
    text = "Bytes a second measured from this fog."
    families.gauge("downlink_bytes_per_second", text, fog["downlink_bytes_per_s"], **labels)
    families.gauge("latency_seconds", "One way, of the heartbeats.", fog["latency_s"], **labels)
    families.counter("acknowledgements", "Frames acknowledged.", counters["acknowledged"], **labels)
    text = "Uploads refused by code, for now or for good."
    families.counters("uploads_refused", text, counters["refused"], "code", **labels)
    text = "Corrected labels answered, by code; ok: the fog has them."
    families.counters("corrections", text, counters["corrections"], "code", **labels)
    families.counters("errors_received", "Errors told by the fog.", counters["errors"], "code", **labels)
    families.counters("messages_sent", "Messages by type.", counters["messages_sent"], "type", **labels)
    families.counters(
        "messages_received", "Messages by type.", counters["messages_received"], "type", **labels
    )
    families.counters("records_received", "Records by kind.", counters["records_received"], "kind", **labels)
    families.counter("records_applied", "Records stored.", counters["applied"], **labels)
    text = "Records delivered again, which were there before."
    families.counter("records_duplicate", text, counters["duplicates"], **labels)
    text = "Records that contradict a stored one."
    families.counter("records_conflicting", text, counters["conflicts"], **labels)
    text = "Records that gaps stand for: missed for good."
    families.counter("records_missed", text, counters["gap_records"], **labels)
