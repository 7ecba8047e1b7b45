"""Every faster way to compute a step against the plain one, and the ways that a device or an objective rules out."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.execution import (
    PLAIN,
    Execution,
    ExecutionConfig,
    TrainPrecision,
    allow_tf32,
    prepare_network,
    resolve,
)
from cyclegan_edge.train.state import TrainState, new_state
from cyclegan_edge.train.step import Losses, Step

CPU = torch.device("cpu")
WAYS: dict[str, tuple[ExecutionConfig, float]] = {  # and how far its gradients may be from the plain ones, relatively
    "batched": (replace(PLAIN, batched=True), 1e-4),
    "channels_last": (replace(PLAIN, channels_last="on"), 1e-4),
    "checkpointing": (replace(PLAIN, checkpointing="on"), 1e-6),
    "in parts": (replace(PLAIN, accumulate=2), 1e-4),
    "bf16": (replace(PLAIN, precision="bf16", batched=True), 0.6),  # 8 bits of mantissa: 0.19 to 0.45 in 26 draws
}


def settings(*overrides: str) -> TrainConfig:
    small = ["size=32", "generator.width=4", "generator.blocks=2", "discriminator.width=4", "device=cpu"]
    return load_settings(TrainConfig, None, [*small, *overrides], overrides={"data": "none"})


def prepared(config: TrainConfig, batch: int) -> tuple[TrainState, Step]:
    speed = resolve(config.speed, CPU, size=config.size, batch=batch)
    state = new_state(config, CPU)
    return state, Step(state, config.objective, speed)


def pair(batch: int = 1, seed: int = 5) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(batch, 3, 32, 32, generator=random) * 2 - 1 for _ in "ab")
    return a, b


def gradients(state: TrainState) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": parameter.grad.detach().clone()
        for name, network in state.networks.items()
        for key, parameter in network.named_parameters()
        if parameter.grad is not None
    }


@pytest.mark.parametrize("way", WAYS)
def test_a_faster_way_gives_the_losses_and_gradients_of_the_plain_one(way: str) -> None:
    speed, bound = WAYS[way]
    state, step = prepared(replace(settings("objective.pool=0"), speed=speed), batch=2)
    plain_state, plain = prepared(replace(settings("objective.pool=0"), speed=PLAIN), batch=2)

    losses, pictures = step(*pair(2))
    expected, plain_pictures = plain(*pair(2))

    for (name, found), (_, wanted) in zip(losses._asdict().items(), expected._asdict().items(), strict=True):
        assert found.item() == pytest.approx(wanted.item(), rel=min(bound, 0.02)), name
    for ours, theirs in zip(pictures, plain_pictures, strict=True):
        assert ((ours - theirs).norm() / theirs.norm()).item() < min(bound, 0.1)
    found_gradients, wanted_gradients = gradients(state), gradients(plain_state)
    assert found_gradients.keys() == wanted_gradients.keys()
    for network, _ in state.networks.items():
        ours, theirs = (
            torch.cat([gradient.flatten() for name, gradient in every.items() if name.startswith(network)])
            for every in (found_gradients, wanted_gradients)
        )
        assert ((ours - theirs).norm() / theirs.norm()).item() < bound, network


def test_checkpointing_keeps_fewer_activations() -> None:
    def kept(checkpointing: bool) -> int:
        config = settings("generator.blocks=6")
        network = new_state(config, CPU).networks.generator_ab
        prepare_network(network, resolve(config.speed, CPU, size=512 if checkpointing else 32, batch=1))
        total = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(pair()[0])
        return total

    assert kept(True) < kept(False) / 2


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        (ExecutionConfig(cuda_graphs="on"), "speed.cuda_graphs.* CUDA device"),
        (ExecutionConfig(precision="fp16"), "fp16.* CUDA device.* bf16"),
        (ExecutionConfig(precision="tf32"), "tf32.* CUDA device.* bf16"),
        (ExecutionConfig(accumulate=3), "accumulate is 3.* 2 pairs"),
    ],
)
def test_what_the_device_cannot_do_is_refused(config: ExecutionConfig, facts: str) -> None:
    with pytest.raises(ConfigError, match=facts):
        resolve(config, CPU, size=32, batch=2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_cpu_takes_both_its_precisions_and_names_them(precision: TrainPrecision) -> None:
    speed = resolve(ExecutionConfig(precision=precision, accumulate=2), CPU, size=512, batch=4)

    assert str(speed) == f"{precision}, checkpointing, accumulate 2"
    assert isinstance(speed, Execution)


HALF: dict[str, ExecutionConfig] = {
    "bf16": ExecutionConfig(precision="bf16", compile="off", cuda_graphs="off"),
    "fp16": ExecutionConfig(precision="fp16", compile="off"),
}
AS_EAGER: dict[str, ExecutionConfig] = {
    "CUDA graphs": ExecutionConfig(precision="fp32", compile="off", cuda_graphs="on"),
    "compiled": ExecutionConfig(precision="fp32", compile="on", cuda_graphs="off"),
    "both": ExecutionConfig(precision="fp32", compile="on", cuda_graphs="on"),
}


@pytest.mark.gpu
@pytest.mark.parametrize("way", HALF)
def test_half_precision_on_cuda_gives_the_losses_of_float32(way: str) -> None:
    """Of the first step only: fp16 skips updates until its scale has settled, so later steps see other weights."""
    found, expected = (losses_on_cuda(execution, steps=1) for execution in (HALF[way], PLAIN))

    for name, wanted in expected[0]._asdict().items():
        assert found[0]._asdict()[name].item() == pytest.approx(wanted.item(), rel=0.05, abs=0.02), name


@pytest.mark.gpu
@pytest.mark.parametrize("way", AS_EAGER)
def test_every_way_on_cuda_gives_the_losses_of_the_eager_one(way: str) -> None:
    """Of three steps: a graph has to see new pictures and new weights."""
    eager = replace(AS_EAGER[way], compile="off", cuda_graphs="off")
    found, expected = (losses_on_cuda(execution, steps=3) for execution in (AS_EAGER[way], eager))

    for step, wanted in enumerate(expected):
        for name, value in wanted._asdict().items():
            assert found[step]._asdict()[name].item() == pytest.approx(value.item(), rel=0.02, abs=0.01), (step, name)


def losses_on_cuda(execution: ExecutionConfig, *, steps: int) -> list[Losses]:
    """In float32 without TF32, so that rounding stays below what Adam's first steps make visible."""
    device, config = torch.device("cuda", 0), replace(settings(), speed=execution)
    resolved = resolve(execution, device, size=config.size, batch=1)
    allow_tf32(resolved)
    state = new_state(config, device)
    step = Step(state, config.objective, resolved)
    results = []
    for seed in range(steps):
        real_a, real_b = (half.to(device) for half in pair(seed=seed))
        losses, _ = step(real_a, real_b)
        results.append(Losses(*(loss.clone() for loss in losses)))
    return results
