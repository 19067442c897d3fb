"""Prometheus metrics from a node's status: what both nodes have in common, and how families are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import prometheus_client
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

__all__ = ["Families", "StatusCollector", "node_families", "training_families"]

# When a series was first seen is of no use here, and doubles the number of lines.
prometheus_client.disable_created_metrics()

PHASES = ("idle", "starting", "ready", "training", "judging", "checking")
"""Phases of training, see :data:`common.node.training_rounds.Phase`."""


class Families:
    """Metric families under one prefix; values of None are left out.

    Args:
        prefix: Beginning of every name.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._families: dict[str, Metric] = {}

    def gauge(self, name: str, text: str, value: float | bool | None, /, **labels: str) -> None:
        """A value that goes up and down; several calls of one name give its series."""
        self._add(GaugeMetricFamily, name, text, value, labels)

    def counter(self, name: str, text: str, value: float | None, /, **labels: str) -> None:
        """A value that only grows while the daemon runs; the name goes without ``_total``."""
        self._add(CounterMetricFamily, name, text, value, labels)

    def counters(
        self, name: str, text: str, values: Mapping[str, float], label: str, /, **labels: str
    ) -> None:
        """A counter of each key of ``values``, which is the value of ``label``."""
        for key, value in values.items():
            self._add(CounterMetricFamily, name, text, value, {**labels, label: key})

    def one_of(self, name: str, text: str, present: str | None, known: Iterable[str], label: str) -> None:
        """1 for the present one of several states, 0 for the others."""
        for state in known:
            self.gauge(name, text, state == present, **{label: state})

    def collect(self) -> list[Metric]:
        """All of them, in the order of their first values."""
        return list(self._families.values())

    def _add(
        self,
        kind: type[GaugeMetricFamily] | type[CounterMetricFamily],
        name: str,
        text: str,
        value: float | bool | None,
        labels: Mapping[str, str],
    ) -> None:
        if value is None:
            return
        full = f"{self._prefix}_{name}"
        family = self._families.get(full)
        if family is None:
            family = self._families[full] = kind(full, text, labels=list(labels))
        if isinstance(family, GaugeMetricFamily | CounterMetricFamily):
            family.add_metric(list(labels.values()), float(value))


class StatusCollector(Collector):
    """Gives a registry the families of the newest status.

    Args:
        families: Makes them of a status.
    """

    def __init__(self, families: Callable[[Mapping[str, Any]], Families]) -> None:
        self._families = families
        self.status: Mapping[str, Any] | None = None

    def describe(self) -> list[Metric]:
        """Nothing is known before there is a status."""
        return []

    def collect(self) -> list[Metric]:
        """The families of the status that was put in."""
        return [] if self.status is None else self._families(self.status).collect()


def node_families(families: Families, status: Mapping[str, Any]) -> None:
    """What both nodes tell: version, health, disk, retention, quarantine and child processes."""
    families.gauge("info", "1, with the version of the node.", 1, version=str(status["version"]))
    families.gauge("uptime_seconds", "Seconds since the daemon started.", status["uptime_s"])
    health = status["health"]
    families.gauge("healthy", "1 if the node does its work, as /health says.", health["healthy"])
    for check in sorted({finding["check"] for finding in health["failing"]}):
        families.gauge("health_failing", "1 for each check of /health that fails.", 1, check=check)
    families.gauge("disk_free_bytes", "Free bytes where the store is.", status["disk_free_bytes"])
    retention = status["retention"]
    families.gauge("store_records", "Records in the store.", retention["records"])
    families.gauge("store_record_bytes", "Their payload bytes.", retention["record_bytes"])
    families.gauge("store_full", "1 while retention refuses more.", bool(retention["full"]))
    text = "Records dropped by retention."
    families.counter("retention_dropped_records", text, retention["dropped_records"])
    text = "Payload bytes dropped by retention."
    families.counter("retention_dropped_bytes", text, retention["dropped_record_bytes"])
    text = "Original images dropped by retention."
    families.counter("retention_dropped_originals", text, retention["dropped_originals"])
    text = "Items found damaged and put aside, those of earlier runs included."
    families.gauge("quarantined_items", text, status["quarantine"]["items"])
    for child in status["children"]:
        pid = str(child["pid"])
        text = "Memory of a child process on this machine."
        families.gauge("child_resident_memory_bytes", text, child.get("rss_bytes"), pid=pid)
        text = "CPU time of a child process on this machine."
        families.counter("child_cpu_seconds", text, child.get("cpu_s"), pid=pid)


def training_families(families: Families, training: Mapping[str, Any]) -> None:
    """What both nodes tell of training."""
    families.one_of("training_phase", "1 for the present phase.", training["phase"], PHASES, "phase")
    families.gauge("training_rounds", "Rounds so far, of earlier runs too.", training["rounds"])
    families.gauge("training_frames", "Frames to train on: labelled, not held out.", training["frames"])
    families.gauge("training_step", "Step of the round under way.", training["step"])
    families.gauge("training_steps", "Steps of the round under way.", training["steps"])
    families.gauge("training_loss", "Loss of the round under way.", training["loss"])
    families.gauge("training_decisions", "Decisions on weights, of earlier runs too.", training["decisions"])
    text = "Share of newly labelled boxes that the detector in use finds."
    families.gauge("detector_agreement", text, training["agreement"])
    families.counter("trainer_crashes", "Times the trainer ended unasked.", training["crashes"])
    decision = training["last_decision"] or {}
    metrics = decision.get("metrics", {})
    for name, text in (("map50", "mAP50"), ("map50_95", "mAP50-95")):
        value = metrics.get(name)
        known = isinstance(value, int | float) and not isinstance(value, bool)
        text = f"{text} of the detector that was decided on last, 0 to 1."
        families.gauge(f"detector_{name}", text, value if known else None)
    families.gauge("detector_deployed", "1 if that one was deployed.", decision.get("deploy"))
