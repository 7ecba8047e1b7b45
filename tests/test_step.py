"""One step: the objective as the paper writes it, and every faster way of computing it against that."""

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
from cyclegan_edge.train.networks import InstanceNorm
from cyclegan_edge.train.state import TrainState, new_state
from cyclegan_edge.train.step import Losses, Step

CPU = torch.device("cpu")
WAYS: dict[str, tuple[ExecutionConfig, float]] = {  # and how far its gradients may be from the plain ones, relatively
    "batched": (replace(PLAIN, batched=True), 1e-4),
    "fused Adam": (replace(PLAIN, fused=True), 1e-6),
    "channels_last": (replace(PLAIN, channels_last="on"), 1e-4),
    "checkpointing": (replace(PLAIN, checkpointing="on"), 1e-6),
    "in parts": (replace(PLAIN, accumulate=2), 1e-4),
    "bf16": (replace(PLAIN, precision="bf16", batched=True), 0.6),  # 8 bits of mantissa: 0.19 to 0.45 in 26 draws
}


def settings(*overrides: str) -> TrainConfig:
    small = ["size=32", "generator.width=4", "generator.blocks=2", "discriminator.width=4", "device=cpu"]
    return load_settings(TrainConfig, None, [*small, *overrides], overrides={"data": "none"})


def prepared(config: TrainConfig, batch: int = 1) -> tuple[TrainState, Step]:
    speed = resolve(config.speed, CPU, size=config.size, batch=batch, penalty=config.objective.gan == "wgangp")
    state = new_state(config, CPU)
    return state, Step(state, config.objective, speed)


def pair(batch: int = 1, seed: int = 5, channels: tuple[int, int] = (3, 3)) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(batch, count, 32, 32, generator=random) * 2 - 1 for count in channels)
    return a, b


def gradients(state: TrainState) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": parameter.grad.detach().clone()
        for name, network in state.networks.items()
        for key, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def test_the_plain_step_equals_the_objective_written_out_in_the_papers_order() -> None:
    config = replace(settings("objective.pool=0"), speed=PLAIN)
    state, step = prepared(config)
    written = new_state(config, CPU)
    real_a, real_b = pair()

    losses, pictures = step(real_a, real_b)

    g_ab, g_ba = written.networks.generator_ab, written.networks.generator_ba
    d_a, d_b = written.networks.discriminator_a, written.networks.discriminator_b
    fake_b, fake_a = g_ab(real_a), g_ba(real_b)
    gan = (d_b(fake_b) - 1).pow(2).mean() + (d_a(fake_a) - 1).pow(2).mean()
    cycle = (g_ba(fake_b) - real_a).abs().mean() + (g_ab(fake_a) - real_b).abs().mean()
    identity = (g_ab(real_b) - real_b).abs().mean() + (g_ba(real_a) - real_a).abs().mean()
    (gan + 10.0 * cycle + 5.0 * identity).backward()
    written.generators.step()
    written.discriminators.zero_grad()
    for judge, real, fake in ((d_a, real_a, fake_a), (d_b, real_b, fake_b)):
        (0.5 * ((judge(real) - 1).pow(2).mean() + judge(fake.detach()).pow(2).mean())).backward()
    written.discriminators.step()

    assert torch.equal(pictures.fake_b, fake_b.detach())
    torch.testing.assert_close(losses.gan_ab + losses.gan_ba, gan.detach(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(losses.cycle_a + losses.cycle_b, cycle.detach(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(losses.identity_a + losses.identity_b, identity.detach(), rtol=1e-6, atol=1e-7)
    expected = gradients(written)
    for name, found in gradients(state).items():
        if not is_dead(name, found):
            torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-7, msg=name)


def is_dead(name: str, gradient: Tensor) -> bool:
    """A bias in front of a norm: its gradient is 0 but for rounding."""
    return name.endswith("bias") and gradient.abs().max().item() < 1e-5


@pytest.mark.parametrize("way", WAYS)
def test_a_faster_way_gives_the_losses_and_gradients_of_the_plain_one(way: str) -> None:
    speed, bound = WAYS[way]
    state, step = prepared(replace(settings("objective.pool=0"), speed=speed), batch=2)
    plain_state, plain = prepared(replace(settings("objective.pool=0"), speed=PLAIN), batch=2)

    losses, _ = step(*pair(2))
    expected, _ = plain(*pair(2))

    for (name, found), (_, wanted) in zip(losses._asdict().items(), expected._asdict().items(), strict=True):
        assert found.item() == pytest.approx(wanted.item(), rel=min(bound, 0.02)), name
    found_gradients, wanted_gradients = gradients(state), gradients(plain_state)
    assert found_gradients.keys() == wanted_gradients.keys()
    for network, _ in state.networks.items():
        ours, theirs = (
            torch.cat([gradient.flatten() for name, gradient in every.items() if name.startswith(network)])
            for every in (found_gradients, wanted_gradients)
        )
        assert ((ours - theirs).norm() / theirs.norm()).item() < bound, network


def test_the_decomposed_norm_equals_torchs() -> None:
    norm, decomposed = InstanceNorm(5), InstanceNorm(5)
    decomposed.decomposed = True
    x = torch.randn(2, 5, 9, 7, generator=torch.Generator().manual_seed(0)) * 40 + 300

    torch.testing.assert_close(decomposed(x), norm(x), rtol=1e-4, atol=1e-4)
    assert decomposed(x.bfloat16()).dtype == norm(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(decomposed(x.bfloat16()), norm(x.bfloat16()), rtol=0, atol=0.02)


@pytest.mark.parametrize("gan", ["lsgan", "vanilla", "hinge", "wgangp"])
@pytest.mark.parametrize("augment", ["none", "colour+translation+cutout"])
def test_every_objective_moves_all_four_networks(gan: str, augment: str) -> None:
    state, step = prepared(settings(f"objective.gan={gan}", f"objective.augment={augment}"))
    before = {name: [value.clone() for value in net.state_dict().values()] for name, net in state.networks.items()}

    losses, _ = step(*pair())

    assert all(loss.isfinite() for _, loss in losses._asdict().items())
    for name, network in state.networks.items():
        changed = [not torch.equal(a, b) for a, b in zip(before[name], network.state_dict().values(), strict=True)]
        assert any(changed), name


@pytest.mark.parametrize(
    "overrides",
    [
        ("generator.kind=unet_128", "size=128"),
        ("generator.upsampling=resize",),
        ("generator.dropout=true",),
        ("discriminator.kind=pixel",),
        ("objective.patches=mean",),
        ("objective.identity_weight=0",),
        ("optimiser.ema=0.9",),
    ],
)
def test_every_variant_of_the_recipe_trains(overrides: tuple[str, ...]) -> None:
    config = settings(*overrides)
    state, step = prepared(config)
    real_a, real_b = (
        torch.rand(1, 3, config.size, config.size, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )

    losses, pictures = step(real_a, real_b)

    assert all(loss.isfinite() for _, loss in losses._asdict().items())
    assert pictures.fake_b.shape == real_a.shape
    assert state.step == 1


def test_grey_becomes_colour_and_colour_grey() -> None:
    _, step = prepared(settings("pictures.colour_a=grey", "objective.identity_weight=0"))
    grey, colour = pair(channels=(1, 3))

    _, pictures = step(grey, colour)

    assert pictures.fake_b.shape == (1, 3, 32, 32)
    assert pictures.fake_a.shape == (1, 1, 32, 32)


def test_identity_weight_0_saves_the_pass_and_reports_0() -> None:
    _, step = prepared(settings("objective.identity_weight=0"))

    losses, _ = step(*pair())

    assert losses.identity_a.item() == losses.identity_b.item() == 0.0


def test_the_moving_average_follows_the_generators() -> None:
    state, step = prepared(settings("optimiser.ema=0.75"))
    key = "model.1.weight"
    start = state.networks.generator_ab.state_dict()[key].clone()

    step(*pair())

    assert state.averages is not None
    live, mean = (net.state_dict()[key] for net in (state.networks.generator_ab, state.averages.generator_ab))
    torch.testing.assert_close(mean, 0.75 * start + 0.25 * live)


def test_a_step_with_non_finite_losses_changes_nothing_but_is_counted() -> None:
    state, step = prepared(settings())
    real_a, real_b = pair()
    step(real_a, real_b)
    before = [parameter.clone() for _, net in state.networks.items() for parameter in net.parameters()]

    step(torch.full_like(real_a, float("nan")), real_b)

    after = [parameter for _, net in state.networks.items() for parameter in net.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert int(state.bad_steps) == 1
    step(real_a, real_b)
    assert int(state.bad_steps) == 0


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


def test_a_gradient_penalty_is_not_compiled() -> None:
    with pytest.raises(ConfigError, match="second derivative"):
        resolve(ExecutionConfig(compile="on"), CPU, size=32, batch=1, penalty=True)


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
