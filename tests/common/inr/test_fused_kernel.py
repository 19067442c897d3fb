"""The fused kernel: right in triton's interpreter, and translated for a GPU that need not be here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from common.inr.fused import is_fusible, padded_width
from common.inr.sampled import compose_samples, stacked_samples
from common.inr.siren import Architecture, SirenStack
from tests import fused_scenes as scenes
from tests.float64_frames import network_values

pytest.importorskip("triton", reason="triton is not installed")
CASES = Path(__file__).with_name("fused_kernel_cases.py")
ROOT = Path(__file__).parents[3]


def run(arguments, **environment):
    """A process of its own: triton decides at import whether it interprets."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_the_kernel_does_its_cases_in_the_interpreter():
    done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)], TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


COMPILE = """
import json, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from common.inr.fused import WARPS
from common.inr.fused_kernel import decode_tiles

capability, body, tail, box_body = json.loads(sys.argv[1])
constants = dict(layers=5, body=body, tail=tail, box_layers=4, box_body=box_body, box_tail=0, bytes_out=True,
                 products="tf32x3")
types = dict(height="i32", width="i32", out="*u8", integers="*i32", depths="*i32", box_rows="*i32",
             box_depths="*i32", reals="*fp64", boxes="*fp64")
names = decode_tiles.arg_names
signature = {name: "constexpr" if name in constants else types.get(name, "*fp32") for name in names}
aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name][0] == "*"}
source = ASTSource(decode_tiles, signature, constexprs=constants, attrs=aligned)
made = triton.compile(source, target=GPUTarget("cuda", capability, 32),
                      options=dict(num_warps=WARPS, enable_fp_fusion=True))
ptx = made.asm["ptx"]
print(json.dumps(dict(shared=made.metadata.shared, sine=ptx.count("sin.approx"), cubin=len(made.asm["cubin"]),
                      products=ptx.count("wgmma.mma_async") + ptx.count("mma.sync"))))
"""


@pytest.mark.parametrize(
    ("capability", "body", "tail", "box_body"),
    [
        (90, 32, 16, 32),
        pytest.param(80, 32, 16, 32, marks=pytest.mark.slow),
        pytest.param(90, 64, 32, 64, marks=pytest.mark.slow),
    ],
)
def test_it_compiles_for_a_gpu_with_split_products_and_no_approximate_sine(
    capability, body, tail, box_body, tmp_path
):
    environment = {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    done = run(["-c", COMPILE, json.dumps([capability, body, tail, box_body])], **environment)
    assert done.returncode == 0, done.stderr[-4000:]
    made = json.loads(done.stdout.splitlines()[-1])
    assert made["cubin"] > 0
    assert made["sine"] == 0
    assert made["products"] > 0
    assert made["products"] % 3 == 0, "tf32x3 is three products each"
    assert made["shared"] <= 16 * (body + tail) ** 2


@pytest.mark.parametrize(
    ("width", "padded"),
    [
        *((1, (16, 0)), (16, (16, 0)), (17, (32, 0)), (20, (32, 0)), (32, (32, 0)), (34, (32, 16))),
        *((42, (32, 16)), (52, (64, 0)), (64, (64, 0)), (80, (64, 16)), (96, (64, 32)), (112, (128, 0))),
    ],
)
def test_networks_are_padded_to_what_tensor_cores_take(width, padded):
    assert padded_width(width) == padded
    assert sum(padded) >= width
    assert sum(padded_width(width, split=False)) == 1 << (sum(padded) - 1).bit_length()


def test_without_a_gpu_frames_are_decoded_as_stacks():
    sampling, parts, boxes = scenes.letterboxes(), scenes.backgrounds(), scenes.objects()
    assert not is_fusible(sampling, parts, boxes)
    assert torch.equal(compose_samples(sampling, parts, boxes), stacked_samples(sampling, parts, boxes))


def tf32(x):
    """The nearest number of 10 binary places, as a tensor core reads it."""
    bits = x.astype(np.float32).view(np.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(np.float32)


def split_product(a, b):
    """As triton's tf32x3: the product of the rests is left out."""
    high_a, high_b = tf32(a), tf32(b)
    low_a, low_b = tf32(a - high_a), tf32(b - high_b)
    return low_a @ high_b + high_a @ low_b + high_a @ high_b


@pytest.mark.parametrize(
    ("product", "keeps_the_rule"),
    [(split_product, True), (lambda a, b: tf32(a) @ tf32(b), False)],
    ids=["tf32x3", "tf32"],
)
def test_three_products_keep_the_precision_rule_and_one_does_not(product, keeps_the_rule):
    stack = SirenStack.initialise(Architecture(42, 5), 1, torch.Generator().manual_seed(0))
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 4096)).astype(np.float32)
    h = np.stack([x, y], 1)
    for layer, (weight, bias) in enumerate(zip(stack.weights, stack.biases, strict=True)):
        factor = np.float32(stack.w0 / np.pi if layer < 5 else 1)
        # The first layer is not a tensor core's.
        times = np.matmul if layer == 0 else product
        angle = times(h, (factor * weight[0].numpy()).T) + factor * bias[0, :, 0].numpy()
        h = (
            np.sin(np.pi * np.remainder(angle.astype(np.float64), 2)).astype(np.float32)
            if layer < 5
            else angle
        )
    error = np.abs(h - network_values(stack, 0, x.astype(float), y.astype(float))).max() / 2 * 255
    assert (error < 0.01) == keeps_the_rule, error
