"""One training step of CycleGAN: section 3 of Zhu et al. 2017 (arXiv:1703.10593), in the reference's order.

    forward          fake_b = G_ab(real_a), cycled_a = G_ba(fake_b), and the other way round
    generators       adversarial loss (eq. 1) + cycle consistency (eq. 2) + identity (section 5.2)
    discriminators   real pictures against those that the replay buffers return (section 4)

    real, fake, cycled, same   (N, C, S, S)   -1..1, on the networks' device

InstanceNorm looks at one picture at a time, so with `speed.batched` pictures that meet the same network share one
forward pass: of the paper's twelve, eight are left. Everything else that makes a step fast is in execution.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cyclegan_edge.train.distributed import ProcessGroup
from cyclegan_edge.train.execution import Execution, Executor, apply_to_both, prepare_network
from cyclegan_edge.train.losses import (
    ObjectiveConfig,
    augmented,
    cycle_loss,
    discriminator_gan_loss,
    generator_gan_loss,
    identity_loss,
    pooled,
)
from cyclegan_edge.train.replay import ReplayBuffer
from cyclegan_edge.train.state import Networks, TrainState


class Losses(NamedTuple):
    """Of one step: 0-d float32, unweighted; they stay on the device so that reading them is the caller's choice."""

    gan_ab: Tensor
    gan_ba: Tensor
    cycle_a: Tensor
    cycle_b: Tensor
    identity_a: Tensor
    identity_b: Tensor
    discriminator_a: Tensor
    discriminator_b: Tensor


class Pictures(NamedTuple):
    """What a step saw and made: (N, C, S, S) float32 in -1..1, without gradient."""

    real_a: Tensor
    fake_b: Tensor
    real_b: Tensor
    fake_a: Tensor


class GeneratorResult(NamedTuple):
    """Of one forward pass of both generators; the losses are unweighted but for `total`."""

    gan_ab: Tensor
    gan_ba: Tensor
    cycle_a: Tensor
    cycle_b: Tensor
    identity_a: Tensor
    identity_b: Tensor
    total: Tensor  # eq. (3)
    fake_b: Tensor
    fake_a: Tensor


class DiscriminatorResult(NamedTuple):
    """Of one forward pass of both discriminators."""

    loss_a: Tensor
    loss_b: Tensor
    total: Tensor


class GeneratorPass(nn.Module):
    """What both generators minimise; the parameters of this module are theirs."""

    def __init__(self, networks: Networks, objective: ObjectiveConfig, *, batched: bool) -> None:
        super().__init__()
        self.generators = nn.ModuleList((networks.generator_ab, networks.generator_ba))
        self._networks, self._objective, self._batched = networks, objective, batched

    def forward(self, real_a: Tensor, real_b: Tensor) -> GeneratorResult:
        """Equation (3) of the paper on one batch."""
        networks, objective = self._networks, self._objective
        fake_b, same_b = self._translate(networks.generator_ab, real_a, real_b)
        fake_a, same_a = self._translate(networks.generator_ba, real_b, real_a)
        cycled_a, cycled_b = networks.generator_ba(fake_b), networks.generator_ab(fake_a)

        gan_ab = self._gan_loss(networks.discriminator_b, fake_b)
        gan_ba = self._gan_loss(networks.discriminator_a, fake_a)
        cycle_a, cycle_b = cycle_loss(cycled_a, real_a), cycle_loss(cycled_b, real_b)
        identity_a, identity_b = identity_loss(same_a, real_a), identity_loss(same_b, real_b)
        total = gan_ab + gan_ba + objective.cycle_weight_a * cycle_a + objective.cycle_weight_b * cycle_b
        total = total + objective.identity_weight * (identity_a + identity_b)
        return GeneratorResult(gan_ab, gan_ba, cycle_a, cycle_b, identity_a, identity_b, total, fake_b, fake_a)

    def _translate(self, generator: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The source translated into the target's domain; the target translated into its own, or itself when unused."""
        if not self._objective.identity_weight:
            return generator(source), target
        return apply_to_both(generator, source, target, batched=self._batched)

    def _gan_loss(self, discriminator: nn.Module, fake: Tensor) -> Tensor:
        score = discriminator(augmented(fake, self._objective.augment))
        return generator_gan_loss(pooled(score, self._objective.patches), self._objective.gan)


class DiscriminatorPass(nn.Module):
    """What both discriminators minimise; the parameters of this module are theirs."""

    def __init__(self, networks: Networks, objective: ObjectiveConfig, *, batched: bool) -> None:
        super().__init__()
        self.discriminator_a, self.discriminator_b = networks.discriminator_a, networks.discriminator_b
        self._objective, self._batched = objective, batched

    def forward(self, real_a: Tensor, fake_a: Tensor, real_b: Tensor, fake_b: Tensor) -> DiscriminatorResult:
        """The fakes come from the replay buffers and carry no gradient."""
        real_a, fake_a, real_b, fake_b = (
            augmented(x, self._objective.augment) for x in (real_a, fake_a, real_b, fake_b)
        )
        loss_a = self._loss(self.discriminator_a, real_a, fake_a)
        loss_b = self._loss(self.discriminator_b, real_b, fake_b)
        return DiscriminatorResult(loss_a, loss_b, total=loss_a + loss_b)

    def _loss(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        objective = self._objective
        scores = apply_to_both(discriminator, real, fake, batched=self._batched)
        score_of_real, score_of_fake = (pooled(score, objective.patches) for score in scores)
        return discriminator_gan_loss(score_of_real, score_of_fake, objective.gan)


class Step:
    """One update of all four networks, the way that `execution` says; the processes of `group` share the batch."""

    def __init__(
        self, state: TrainState, objective: ObjectiveConfig, execution: Execution, group: ProcessGroup | None = None
    ) -> None:
        self.state, self._group = state, group or ProcessGroup()
        for _, network in state.networks.items():
            prepare_network(network, execution)
        generators = GeneratorPass(state.networks, objective, batched=execution.batched)
        self._discriminators = DiscriminatorPass(state.networks, objective, batched=execution.batched)
        self._run_generators: Executor[GeneratorResult] = Executor(
            generators, state.generators, state.scaler, execution, self._group
        )
        self._run_discriminators: Executor[DiscriminatorResult] = Executor(
            self._discriminators, state.discriminators, state.scaler, execution, self._group
        )

    def __call__(self, real_a: Tensor, real_b: Tensor) -> tuple[Losses, Pictures]:
        """`real_a` and `real_b` are this process's share of a batch: (n, C, S, S) float32 in -1..1 on the device."""
        state = self.state

        self._discriminators.requires_grad_(False)  # the generators need their gradient towards the pictures only
        made = self._run_generators(real_a, real_b)
        state.scaler.step(state.generators)
        if state.averages is not None:
            state.averages.follow(state.networks)

        self._discriminators.requires_grad_(True)
        fake_a, fake_b = self._replayed(state.replay_a, made.fake_a), self._replayed(state.replay_b, made.fake_b)
        judged = self._run_discriminators(real_a, fake_a, real_b, fake_b)
        state.scaler.step(state.discriminators)
        state.scaler.update()

        losses = Losses(
            made.gan_ab, made.gan_ba, made.cycle_a, made.cycle_b, made.identity_a, made.identity_b,
            judged.loss_a, judged.loss_b,
        )  # fmt: skip
        finite = torch.stack((*losses, made.total)).isfinite().all()
        state.count_step(finite, made.cycle_a + made.cycle_b, pairs=len(real_a) * self._group.world_size)
        return losses, Pictures(real_a, made.fake_b, real_b, made.fake_a)

    def _replayed(self, buffer: ReplayBuffer, fake: Tensor) -> Tensor:
        """Every process keeps the same buffers, so that any number of them gives the same answers."""
        return self._group.local_shard(buffer.query(self._group.all_gather(fake)))
