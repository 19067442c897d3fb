"""One measurement: a frame, a profile or peer, a target; in this process or in several at once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UsageError
from common.quality import frame_quality
from fog_node.encoders.encoder_settings import EncoderSettings
from judge.cache import Cache, key_of, source_digest
from judge.peers import OPTIONS, PLACE_BYTES, QUALITIES, sweep
from judge.pool import as_done
from judge.protocol import WIDTH, ListedFrame, Target, pixels

if TYPE_CHECKING:
    from fog_node.encoders.encoder import FrameEncoder

__all__ = [
    "CODEC_MODULES",
    "FAMILIES",
    "Job",
    "Plan",
    "encoder_for",
    "measure",
    "measure_all",
    "model_of",
    "plan_key",
    "settings_for",
]

_SIREN = (
    *(f"fog_node.encoders.{name}" for name in ("siren_encoder", "ladder", "rounds", "goals", "size_choice")),
    *(f"common.inr.{name}" for name in ("quantized_fit", "pruning", "optimizer", "fit")),
)
FAMILIES = {
    "siren": ("pyramid", "image_encoder"),
    "pyramid": ("image_encoder", *_SIREN),
    "jpeg": ("pyramid", *_SIREN),
    "webp": ("pyramid", *_SIREN),
    "avif": ("pyramid", *_SIREN),
}
"""Words in the names of modules that a profile does not run: a change of them does not measure it anew."""
CODEC_MODULES = ("fog_node.encoders.encoder", "common.bitstream", "common.inr.decode", "common.images")
"""Where the sources of the codec begin."""
LEARNED = frozenset({"pyramid"})
"""Profiles with a part that is learned beforehand, which must not have seen the source it is judged on."""
LIBRARIES = ("torch", "numpy", "pillow", "opencv-python")
"""Their versions are part of a key: they compute pixels."""
SUFFIX = ".rinr"


@dataclass(frozen=True, slots=True)
class Plan:
    """What holds for every measurement of a run.

    Attributes:
        cache: Where measurements are kept.
        settings: Encoder settings; profile and targets are put in for each measurement.
        models: Model file of a learned profile, by the source of the frame (see :func:`model_of`); empty: the
            shipped one.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: CPU threads of each process.
    """

    cache: Cache
    settings: EncoderSettings = field(default_factory=EncoderSettings)
    models: Mapping[str, Path] = field(default_factory=dict)
    device: str = "auto"
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement.

    Attributes:
        frame: What is encoded.
        profile: A profile of the encoder, or a peer's codec.
        target: What the profile must reach; None for a peer, whose files serve every target.
    """

    frame: ListedFrame
    profile: str
    target: Target | None = None


def settings_for(settings: EncoderSettings, profile: str, target: Target) -> EncoderSettings:
    """``settings`` with a profile, a target and the coded width of the protocol put in."""
    changed = {
        "profile": profile,
        "background_psnr": target.background,
        "object_psnr": target.object,
        "width": WIDTH,
    }
    return EncoderSettings.model_validate({**settings.model_dump(), **changed})


def model_of(models: Mapping[str, Path], source: str) -> Path | None:
    """The model for frames of ``source``: one that has not seen that source; None when none is named.

    Raises:
        UsageError: Models are named, but none for this source.
    """
    if not models:
        return None
    if source not in models:
        raise UsageError(
            f"no model for the source {source!r}, only for {', '.join(sorted(models))}; "
            "train one that leaves this source out and name its file after it"
        )
    return models[source]


def encoder_for(plan: Plan, job: Job) -> FrameEncoder:
    """A fresh encoder for one frame: nothing that another frame has left can help it."""
    from fog_node.encoders.encoder import FrameEncoder

    if job.target is None:
        raise ValueError("a peer has no encoder of ours")
    settings = settings_for(plan.settings, job.profile, job.target)
    return FrameEncoder(settings, plan.device, plan.threads, _model(plan, job))


def _model(plan: Plan, job: Job) -> Path | None:
    return model_of(plan.models, job.frame.source) if job.profile in LEARNED else None


def plan_key(plan: Plan, job: Job) -> str:
    """Cache key of a measurement."""
    if job.target is None:
        what: dict[str, Any] = {
            "peer": job.profile,
            "width": WIDTH,
            "qualities": list(QUALITIES[job.profile]),
            "options": OPTIONS[job.profile],
            "place": PLACE_BYTES,
            "libraries": [version(name) for name in LIBRARIES[1:]],
        }
        return key_of(job.frame.frame, what)
    model = _model(plan, job)
    what = {
        "settings": settings_for(plan.settings, job.profile, job.target).model_dump(mode="json"),
        "sources": source_digest(CODEC_MODULES, FAMILIES.get(job.profile, ())),
        "model": None if model is None else hashlib.sha256(model.read_bytes()).hexdigest(),
        "libraries": [version(name) for name in LIBRARIES],
        "device": plan.device,
    }
    return key_of(job.frame.frame, what)


def measure(plan: Plan, job: Job) -> dict[str, Any]:
    """Measure, or find the measurement in the cache.

    Returns:
        Of a peer :meth:`judge.peers.Sweep.to_json`; of a profile ``bytes`` of the packet's file,
        ``background_psnr_db`` (None: boxes cover the frame), ``object_psnr_db`` of each box, ``on_target``,
        ``seconds`` to encode and ``decode_seconds``, or ``failure``: why the frame cannot be encoded.
    """
    key = plan_key(plan, job)
    value = plan.cache.get(key)
    if value is None:
        if job.target is None:
            value = sweep(*pixels(job.frame.frame), job.profile).to_json()
        else:
            value = _encode(plan, job, key)
        plan.cache.put(key, value)
    return value


def _encode(plan: Plan, job: Job, key: str) -> dict[str, Any]:
    from common.bitstream import decode_packet
    from common.inr.compose import to_bytes
    from common.inr.decode import compose_packets
    from fog_node.encoders.encoder import EncodeFailure

    if job.target is None:
        raise ValueError("a peer has no packet")
    encoder = encoder_for(plan, job)
    begin = time.perf_counter()
    (result,) = encoder.encode([job.frame.frame])
    seconds = time.perf_counter() - begin
    if isinstance(result, EncodeFailure):
        return {"failure": result.reason, "seconds": seconds}
    path = plan.cache.put_file(key, SUFFIX, result.packet)
    data = path.read_bytes()
    begin = time.perf_counter()
    decoded = to_bytes(compose_packets([decode_packet(data)], device=encoder.device))
    rgb = decoded[0].permute(1, 2, 0).cpu().numpy()
    decode_seconds = time.perf_counter() - begin
    background, objects = frame_quality(rgb, *pixels(job.frame.frame))
    return {
        "bytes": len(data),
        "background_psnr_db": background,
        "object_psnr_db": objects,
        "on_target": job.target.reached(background, objects),
        "seconds": seconds,
        "decode_seconds": decode_seconds,
    }


def measure_all(plan: Plan, jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Each job with its measurement, as they come; what the cache holds comes first."""
    missing = []
    for job in jobs:
        value = plan.cache.get(plan_key(plan, job))
        if value is None:
            missing.append(job)
        else:
            yield job, value
    if not missing:
        return
    if processes == 1:
        # OpenMP reads this when torch is imported.
        os.environ["OMP_NUM_THREADS"] = str(plan.threads)
        for job in missing:
            yield job, measure(plan, job)
        return
    yield from as_done({job: partial(measure, plan, job) for job in missing}, processes, plan.threads)
