"""One step: the objective as the paper writes it, every variant of it, and what a failed step leaves."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cyclegan_edge.settings import load_settings
from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.execution import PLAIN, resolve
from cyclegan_edge.train.state import TrainState, new_state
from cyclegan_edge.train.step import Step

CPU = torch.device("cpu")


def settings(*overrides: str) -> TrainConfig:
    small = ["size=32", "generator.width=4", "generator.blocks=2", "discriminator.width=4", "device=cpu"]
    return load_settings(TrainConfig, None, [*small, *overrides], overrides={"data": "none"})


def prepared(config: TrainConfig, batch: int = 1) -> tuple[TrainState, Step]:
    speed = resolve(config.speed, CPU, size=config.size, batch=batch)
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


@pytest.mark.parametrize("gan", ["lsgan", "vanilla", "hinge"])
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


@pytest.mark.parametrize(("weight", "pictures"), [(5.0, 3), (0.0, 2)])
def test_identity_weight_0_saves_the_pass_and_reports_0(weight: float, pictures: int) -> None:
    state, step = prepared(settings(f"objective.identity_weight={weight}"))
    translated = 0

    def count(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal translated
        translated += len(inputs[0])

    state.networks.generator_ab.register_forward_pre_hook(count)
    losses, _ = step(*pair())

    assert translated == pictures
    assert bool(losses.identity_a) == bool(losses.identity_b) == bool(weight)


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
