"""The ways to take a training step that benchmarks/train.py compares.

    plain      the objective in the reference implementation's order, without its code: twelve passes one after the
               other in float32 under torch's defaults (TF32 in CUDA's convolutions), Adam as torch picks it
    reference  the reference implementation itself: CycleGANModel.optimize_parameters of a clone, by its own options
    ours       `cyclegan-edge train` with its defaults, and with single settings changed

A step is a function of two batches, (N, 3, S, S) float32 in -1..1 on the device.
"""

import argparse
import contextlib
import importlib
import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.execution import PLAIN, Execution, allow_tf32, resolve
from cyclegan_edge.train.losses import cycle_loss, discriminator_gan_loss, generator_gan_loss, identity_loss
from cyclegan_edge.train.networks import InstanceNorm
from cyclegan_edge.train.state import new_state
from cyclegan_edge.train.step import Step

TrainStep = Callable[[Tensor, Tensor], object]

WAYS: dict[str, list[str]] = {  # what is changed from our defaults
    "plain": [],
    "reference": [],
    "ours": [],
    "ours, fp32": ["speed.precision=fp32"],
    "ours, not compiled": ["speed.compile=off"],
    "ours, in CUDA graphs": ["speed.cuda_graphs=on"],  # at every batch; by default up to 4
    "ours, one pass a batch": ["speed.batched=false"],
    "ours, norms by sums": [],  # no setting: `SummedNorm`
}
REFERENCE_BLOCKS = (6, 9)  # that the reference's generators come with


@dataclass(frozen=True)
class Case:
    """One size of the problem."""

    size: int
    batch: int
    width: int = 64
    blocks: int = 9

    def __str__(self) -> str:
        return f"{self.size} px, batch {self.batch}, width {self.width}, {self.blocks} blocks"


class SummedNorm(InstanceNorm):
    """InstanceNorm from the sums of x and x^2 instead of Welford's update, which divides once for every pixel.

    The sums are of the distance to each channel's first pixel, so that a large mean cancels nothing. A variance does
    not depend on what it is measured from, so that pixel gets no gradient by it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, h, w)."""
        wide = x.float()
        far = wide - wide[:, :, :1, :1].detach()
        mean = far.mean((2, 3), keepdim=True)
        variance = (far.square().mean((2, 3), keepdim=True) - mean.square()).clamp_min(0.0)
        return ((far - mean) * torch.rsqrt(variance + self.eps)).to(x.dtype)


def settings(case: Case, way: str) -> TrainConfig:
    given = {
        "data": "none",
        "size": case.size,
        "batch": case.batch,
        "generator.width": case.width,
        "generator.blocks": case.blocks,
        "discriminator.width": case.width,
    }
    config = load_settings(TrainConfig, None, WAYS[way], overrides=given)
    return replace(config, speed=PLAIN) if way == "plain" else config


def execution_of(case: Case, way: str, device: torch.device) -> Execution:
    return resolve(settings(case, way).speed, device, size=case.size, batch=case.batch)


def step_of(case: Case, way: str, device: torch.device, reference: Path | None = None) -> TrainStep:
    """A step the given way, on fresh networks; `reference` is a clone of the reference implementation."""
    if way == "plain":
        return plain_step(case, device)
    if way == "reference":
        assert reference is not None
        return reference_step(case, device, reference)
    config = settings(case, way)
    state, execution = new_state(config, device), execution_of(case, way, device)
    if way == "ours, norms by sums":
        for _, network in state.networks.items():
            for module in network.modules():
                if isinstance(module, InstanceNorm):
                    module.__class__ = SummedNorm
    allow_tf32(execution)
    return Step(state, config.objective, execution)


def plain_step(case: Case, device: torch.device) -> TrainStep:
    """The objective in the order of the reference implementation, one network pass at a time."""
    state = new_state(settings(case, "plain"), device)
    g_ab, g_ba, d_a, d_b = (network for _, network in state.networks.items())
    generators, discriminators = (
        torch.optim.Adam([p for net in nets for p in net.parameters()], lr=2e-4, betas=(0.5, 0.999))
        for nets in ((g_ab, g_ba), (d_a, d_b))
    )

    def step(real_a: Tensor, real_b: Tensor) -> None:
        fake_b, fake_a = g_ab(real_a), g_ba(real_b)
        cycled_a, cycled_b = g_ba(fake_b), g_ab(fake_a)
        for network in (d_a, d_b):
            network.requires_grad_(False)
        generators.zero_grad()
        loss = generator_gan_loss(d_b(fake_b)) + generator_gan_loss(d_a(fake_a))
        loss = loss + 10.0 * (cycle_loss(cycled_a, real_a) + cycle_loss(cycled_b, real_b))
        loss = loss + 5.0 * (identity_loss(g_ba(real_a), real_a) + identity_loss(g_ab(real_b), real_b))
        loss.backward()
        generators.step()
        for network in (d_a, d_b):
            network.requires_grad_(True)
        discriminators.zero_grad()
        for judge, real, fake, pool in (
            (d_a, real_a, fake_a, state.replay_a),
            (d_b, real_b, fake_b, state.replay_b),
        ):
            discriminator_gan_loss(judge(real), judge(pool.query(fake))).backward()
        discriminators.step()

    return step


def reference_step(case: Case, device: torch.device, clone: Path) -> TrainStep:
    """`CycleGANModel.optimize_parameters` of a clone of pytorch-CycleGAN-and-pix2pix, set up as its train.py does.

    Its names are `models`, `options`, `util`, `data`: only a process of its own should import them. Raises ValueError
    for blocks that it has no generator of, and whatever its own code raises.
    """
    if case.blocks not in REFERENCE_BLOCKS:
        raise ValueError(f"the reference has generators of 6 and of 9 blocks, not of {case.blocks}")
    with _imports_from(clone), tempfile.TemporaryDirectory() as checkpoints:
        options = _reference_options(case, device, Path(checkpoints))
        options.device = device  # where a clone of 2025 expects it; older ones read gpu_ids
        model = importlib.import_module("models").create_model(options)
        model.setup(options)

    def step(real_a: Tensor, real_b: Tensor) -> None:
        model.set_input({"A": real_a, "B": real_b, "A_paths": [], "B_paths": []})
        model.optimize_parameters()

    return step


@contextlib.contextmanager
def _imports_from(clone: Path) -> Iterator[None]:
    """Inside, modules are looked for in the clone first, and what they print is dropped."""
    with mock.patch.object(sys, "path", [str(clone), *sys.path]), contextlib.redirect_stdout(io.StringIO()):
        yield


def _reference_options(case: Case, device: torch.device, checkpoints: Path) -> Any:
    """The reference's own options, as its parser makes them of a command line."""
    parse = importlib.import_module("options.train_options").TrainOptions
    words = {
        "--dataroot": "none",
        "--model": "cycle_gan",
        "--checkpoints_dir": str(checkpoints),
        "--netG": f"resnet_{case.blocks}blocks",
        "--ngf": str(case.width),
        "--ndf": str(case.width),
        "--batch_size": str(case.batch),
        "--crop_size": str(case.size),
    }
    known = parse().initialize(argparse.ArgumentParser()).format_help()
    if "--gpu_ids" in known:
        words["--gpu_ids"] = "0" if device.type == "cuda" else "-1"
    line = [word for pair in words.items() for word in pair]
    with mock.patch.object(sys, "argv", ["train.py", *line]):
        return parse().parse()
