"""One optimiser step of CycleGAN on one batch of pairs.

The order is the reference's: both directions forward, the generators' update with the discriminators held still, then
the discriminators' update on real pictures and on what the replay buffers answer. One Adam serves both generators and
one both discriminators.

InstanceNorm looks at one picture at a time, so pictures that meet the same network share one pass: the real picture
and the identity input of a generator, the real and the replayed picture of a discriminator.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.losses import cycle_loss, discriminator_gan_loss, generator_gan_loss, identity_loss
from cyclegan_edge.train.networks import PatchDiscriminator, ResnetGenerator, start_weights
from cyclegan_edge.train.replay import ReplayBuffer


@dataclass(frozen=True, slots=True)
class Networks:
    """`generator_ab` turns A into B, `discriminator_b` judges B."""

    generator_ab: ResnetGenerator
    generator_ba: ResnetGenerator
    discriminator_a: PatchDiscriminator
    discriminator_b: PatchDiscriminator

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """Name and network, in the order of the fields."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


@dataclass(slots=True)
class TrainState:
    """Everything that a step changes."""

    networks: Networks
    generators: torch.optim.Adam
    discriminators: torch.optim.Adam
    replay_a: ReplayBuffer
    replay_b: ReplayBuffer
    step: int = 0  # steps taken


@dataclass(frozen=True, slots=True)
class Losses:
    """0-d tensors, unweighted; they stay on the device so that reading them is the caller's choice."""

    gan_ab: Tensor
    gan_ba: Tensor
    cycle_a: Tensor
    cycle_b: Tensor
    identity_a: Tensor
    identity_b: Tensor
    discriminator_a: Tensor
    discriminator_b: Tensor

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Name and value, in the order of the fields."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a step saw and made, each (N, 3, S, S) in -1..1, without gradient."""

    real_a: Tensor
    fake_b: Tensor
    cycled_a: Tensor
    real_b: Tensor
    fake_a: Tensor
    cycled_b: Tensor


def new_state(config: TrainConfig, device: torch.device) -> TrainState:
    """Networks with their start weights, fresh optimisers and empty replay buffers, all decided by `config.seed`."""
    random = torch.Generator().manual_seed(config.seed)
    networks = Networks(
        ResnetGenerator(config.generator),
        ResnetGenerator(config.generator),
        PatchDiscriminator(config.discriminator),
        PatchDiscriminator(config.discriminator),
    )
    for _, network in networks.items():
        start_weights(network, random)
        network.to(device)
    return TrainState(
        networks,
        generators=_adam(config, networks.generator_ab, networks.generator_ba),
        discriminators=_adam(config, networks.discriminator_a, networks.discriminator_b),
        replay_a=ReplayBuffer(config.pool, seed=config.seed + 1),
        replay_b=ReplayBuffer(config.pool, seed=config.seed + 2),
    )


def train_step(
    state: TrainState, real_a: Tensor, real_b: Tensor, *, cycle_weight: float, identity_weight: float
) -> tuple[Losses, Pictures]:
    """Update all four networks once from real_a and real_b, each (N, 3, S, S) float32 in -1..1."""
    networks = state.networks
    _hold_still(networks, still=True)
    fake_b, same_b = _translate(networks.generator_ab, real_a, real_b, identity_weight)
    fake_a, same_a = _translate(networks.generator_ba, real_b, real_a, identity_weight)
    cycled_a = networks.generator_ba(fake_b)
    cycled_b = networks.generator_ab(fake_a)
    gan_ab = generator_gan_loss(networks.discriminator_b(fake_b))
    gan_ba = generator_gan_loss(networks.discriminator_a(fake_a))
    cycle_a, cycle_b = cycle_loss(cycled_a, real_a), cycle_loss(cycled_b, real_b)
    identity_a, identity_b = identity_loss(same_a, real_a), identity_loss(same_b, real_b)
    total = gan_ab + gan_ba + cycle_weight * (cycle_a + cycle_b)
    if identity_weight:
        total = total + identity_weight * (identity_a + identity_b)
    state.generators.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    state.generators.step()

    _hold_still(networks, still=False)
    discriminator_a = _judge(networks.discriminator_a, real_a, state.replay_a.query(fake_a))
    discriminator_b = _judge(networks.discriminator_b, real_b, state.replay_b.query(fake_b))
    state.discriminators.zero_grad(set_to_none=True)
    (discriminator_a + discriminator_b).backward()  # type: ignore[no-untyped-call]
    state.discriminators.step()
    state.step += 1

    losses = (gan_ab, gan_ba, cycle_a, cycle_b, identity_a, identity_b, discriminator_a, discriminator_b)
    pictures = (real_a, fake_b, cycled_a, real_b, fake_a, cycled_b)
    return Losses(*(loss.detach() for loss in losses)), Pictures(*(picture.detach() for picture in pictures))


def _translate(generator: nn.Module, source: Tensor, target: Tensor, identity_weight: float) -> tuple[Tensor, Tensor]:
    """The translated source, and the target sent through the same network (itself when identity is off: loss 0)."""
    if not identity_weight:
        return generator(source), target
    translated, same = generator(torch.cat((source, target))).chunk(2)
    return translated, same


def _judge(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    score_of_real, score_of_fake = discriminator(torch.cat((real, fake))).chunk(2)
    return discriminator_gan_loss(score_of_real, score_of_fake)


def _hold_still(networks: Networks, *, still: bool) -> None:
    """The generators' update needs the discriminators' gradient towards the picture only, not towards their weights."""
    networks.discriminator_a.requires_grad_(not still)
    networks.discriminator_b.requires_grad_(not still)


def _adam(config: TrainConfig, *networks: nn.Module) -> torch.optim.Adam:
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return torch.optim.Adam(parameters, lr=config.learning_rate, betas=(config.beta1, config.beta2))
