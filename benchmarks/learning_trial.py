"""How fast a detector learns from packets: seconds a step and mAP against steps.

    python benchmarks/learning_trial.py --steps 80 --batch 4 --learning-rate 0.002

Frames are moving crops of one photograph (the first clip of ``simulate loopback``), encoded once and kept in
``--work``: they show how fast the pipeline learns, not how well a detector generalises.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from common.bitstream import decode_packet
from common.learning.augmentation_settings import AugmentationSettings
from common.learning.batches import decode_batch
from common.learning.detector import resolve_device, start_weights
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.trainer import train
from common.learning.validation import ValidationSet, evaluate
from common.learning.views import NO_AUGMENTATION
from common.learning.yolo_environment import prepare_yolo
from fog_node.encoders.encoder import EncodedFrame, FrameEncoder
from fog_node.encoders.encoder_settings import EncoderSettings
from simulations.loopback_scenario import load_loopback_scenario
from simulations.recordings import made_recordings


def main() -> None:
    """Encode, time the decoding, train, and print one line an evaluation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("out/learning_trial"), help="folder for the packets"
    )
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--batchnorm-momentum", type=float, default=0.1)
    parser.add_argument("--supersample", type=int, default=1)
    parser.add_argument(
        "--augment", nargs="*", metavar="NAME=X", help="only this augmentation; the defaults when left out"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    scenario = load_loopback_scenario()
    recordings = made_recordings(scenario)
    settings = TrainingSettings(
        imgsz=arguments.imgsz,
        batch=arguments.batch,
        epochs=10_000,
        max_steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        batchnorm_momentum=arguments.batchnorm_momentum,
        supersample=arguments.supersample,
        seed=arguments.seed,
        device=arguments.device,
        threads=arguments.threads,
        classes=recordings.classes,
    )
    if arguments.augment is not None:
        given = dict(item.split("=") for item in arguments.augment)
        augmentation = AugmentationSettings.model_validate(NO_AUGMENTATION.model_dump() | given)
        settings = settings.model_copy(update={"augmentation": augmentation})
    prepare_yolo(arguments.threads)
    device = resolve_device(arguments.device)
    held_out = {frame.name for frame in recordings.validation(0)}
    frames = [frame for frame in recordings.clips[0] if frame.name not in held_out]
    arguments.work.mkdir(parents=True, exist_ok=True)
    missing = [f for f in frames if not (arguments.work / f"{f.name}.rinr").exists()]
    encoder = FrameEncoder(
        EncoderSettings(
            profile="siren", background_psnr=26, object_psnr=30, width=scenario.coded_width, time_budget_s=3
        )
    )
    for at in range(0, len(missing), 8):
        sys.stderr.write(f"encoding frame {at + 1} of {len(missing)}\n")
        part = missing[at : at + 8]
        for frame, result in zip(part, encoder.encode(part), strict=True):
            if isinstance(result, EncodedFrame):
                (arguments.work / f"{frame.name}.rinr").write_bytes(result.packet)
    torch.set_num_threads(arguments.threads)
    store = ResidentStore(device, settings.memory_bytes, settings)
    store.add([decode_packet((arguments.work / f"{f.name}.rinr").read_bytes()) for f in frames])
    validation = ValidationSet(recordings.validation(0), settings)
    print(f"{len(store)} frames, {store.nbytes:,} bytes resident, {validation.boxes} validation boxes")

    batch = torch.arange(arguments.batch)
    decode_batch(store, batch, settings.imgsz, supersample=settings.supersample)
    wall, cpu = time.monotonic(), time.process_time()
    for _ in range(10):
        decode_batch(store, batch, settings.imgsz, supersample=settings.supersample)["img"].cpu()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    print(f"decode: {wall / 10:.3f} s a batch ({cpu / 10:.3f} CPU-s)")

    per_epoch = -(-len(store) // settings.batch)
    every = max(1, arguments.steps // 8 // per_epoch)

    def on_epoch(epoch: int, detector: object) -> None:
        if epoch % every == 0:
            (score,) = evaluate([detector], validation, settings, device)
            print(
                f"step {epoch * per_epoch:5d}  mAP50 {score.map50:.3f}  mAP50-95 {score.map50_95:.3f}",
                flush=True,
            )

    with tempfile.TemporaryDirectory() as folder:
        result = train(
            store, settings, start_weights(settings), Path(folder), TrainerHooks(on_epoch=on_epoch)
        )
    print(f"{result.steps} steps, {result.seconds / result.steps:.3f} s a step, decoding included")


if __name__ == "__main__":
    main()
