"""One optimiser step of CycleGAN on one batch of pairs.

The order is the reference's: both directions forward, the generators' update with the discriminators held still, then
the discriminators' update on real pictures and on what the replay buffers answer. One Adam serves both generators and
one both discriminators.

InstanceNorm looks at one picture at a time, so pictures that meet the same network share one pass: the real picture
and the identity input of a generator, the real and the replayed picture of a discriminator. Of the paper's twelve
passes eight are left.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cyclegan_edge.train.cuda_graph import CudaGraphed, Passes
from cyclegan_edge.train.distributed import ProcessGroup
from cyclegan_edge.train.execution import Execution, prepare_network
from cyclegan_edge.train.losses import (
    ObjectiveConfig,
    augmented,
    cycle_loss,
    discriminator_gan_loss,
    generator_gan_loss,
    gradient_penalty,
    identity_loss,
)
from cyclegan_edge.train.state import Networks, TrainState


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
    """What a step saw and made, each (N, C, S, S) in -1..1, without gradient; overwritten by the next step."""

    real_a: Tensor
    fake_b: Tensor
    cycled_a: Tensor
    real_b: Tensor
    fake_a: Tensor
    cycled_b: Tensor


class Step:
    """One update of all four networks, prepared for a device and for the other processes.

    step(real_a, real_b) takes this process's share of a batch, (n, C, S, S) float32 in -1..1 on the device.
    """

    def __init__(
        self, state: TrainState, objective: ObjectiveConfig, speed: Execution, group: ProcessGroup | None = None
    ) -> None:
        self.state = state
        self._objective = objective
        self._speed = speed
        self._group = group or ProcessGroup()
        self._device = next(state.networks.generator_ab.parameters()).device
        for _, network in state.networks.items():
            prepare_network(network, speed)
        self._translation = self._shared(_Translation(state.networks, speed, objective))
        self._judgement = self._shared(_Judgement(state.networks, speed))
        self._generators: Passes = self._generators_pass
        self._discriminators: Passes = self._discriminators_pass
        if speed.cuda_graphs:
            self._generators = CudaGraphed(self._generators_pass, state.generators.zero_grad)
            self._discriminators = CudaGraphed(self._discriminators_pass, state.discriminators.zero_grad)

    def __call__(self, real_a: Tensor, real_b: Tensor) -> tuple[Losses, Pictures]:
        """Update all four networks once."""
        state, parts = self.state, self._speed.accumulate
        if self._speed.channels_last:
            real_a, real_b = (real.to(memory_format=torch.channels_last) for real in (real_a, real_b))
        reals_a, reals_b = real_a.chunk(parts), real_b.chunk(parts)

        self._hold_still(True)
        made = self._in_parts(
            self._generators, self._translation, state.generators, list(zip(reals_a, reals_b, strict=True))
        )
        fake_b, fake_a = (torch.cat([part[index] for part in made]) for index in (7, 8))
        self._update(state.generators)

        self._hold_still(False)
        old_a, old_b = self._replayed(fake_a, fake_b)
        inputs = list(zip(reals_a, old_a.chunk(parts), reals_b, old_b.chunk(parts), strict=True))
        judged = self._in_parts(self._discriminators, self._judgement, state.discriminators, inputs)
        self._update(state.discriminators)
        state.scaler.update()

        values = [
            torch.stack([part[index] for part in passes]).mean()
            for passes, indices in ((made, range(7)), (judged, range(2)))
            for index in indices
        ]
        self._count(values, len(real_a))
        del values[6]  # the total
        cycled_a, cycled_b = (torch.cat([part[index] for part in made]) for index in (9, 10))
        return Losses(*values), Pictures(real_a, fake_b, cycled_a, real_b, fake_a, cycled_b)

    def _generators_pass(self, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, ...]:
        """Six losses, their total, fake_b, fake_a, cycled_a, cycled_b; the generators' gradients are left behind."""
        aim, networks = self._objective, self.state.networks
        with self._autocast():
            fake_b, fake_a, cycled_a, cycled_b, same_b, same_a = self._translation(real_a, real_b)
            score_b = self._score(networks.discriminator_b, fake_b)
            score_a = self._score(networks.discriminator_a, fake_a)
        gan_ab = generator_gan_loss(self._patches(score_b), aim.gan)
        gan_ba = generator_gan_loss(self._patches(score_a), aim.gan)
        cycle_a, cycle_b = cycle_loss(cycled_a.float(), real_a), cycle_loss(cycled_b.float(), real_b)
        total = gan_ab + gan_ba + aim.cycle_weight_a * cycle_a + aim.cycle_weight_b * cycle_b
        identity_a = identity_b = torch.zeros_like(cycle_a)
        if aim.identity_weight:
            identity_a, identity_b = identity_loss(same_a.float(), real_a), identity_loss(same_b.float(), real_b)
            total = total + aim.identity_weight * (identity_a + identity_b)
        self._backward(total)
        losses = (gan_ab, gan_ba, cycle_a, cycle_b, identity_a, identity_b, total)
        results = (*losses, fake_b, fake_a, cycled_a, cycled_b)
        return tuple(result.detach().float() for result in results)

    def _discriminators_pass(self, real_a: Tensor, old_a: Tensor, real_b: Tensor, old_b: Tensor) -> tuple[Tensor, ...]:
        """Two losses; the discriminators' gradients are left behind."""
        aim, networks = self._objective, self.state.networks
        seen = [augmented(pictures, aim.augment) for pictures in (real_a, old_a, real_b, old_b)]
        with self._autocast():
            scores = self._judgement(*seen)
        real_a_score, old_a_score, real_b_score, old_b_score = map(self._patches, scores)
        loss_a = discriminator_gan_loss(real_a_score, old_a_score, aim.gan)
        loss_b = discriminator_gan_loss(real_b_score, old_b_score, aim.gan)
        if aim.gan == "wgangp":
            loss_a = loss_a + aim.penalty_weight * gradient_penalty(networks.discriminator_a, seen[0], seen[1])
            loss_b = loss_b + aim.penalty_weight * gradient_penalty(networks.discriminator_b, seen[2], seen[3])
        self._backward(loss_a + loss_b)
        return loss_a.detach(), loss_b.detach()

    def _in_parts(
        self, passes: Passes, module: nn.Module, optimiser: torch.optim.Adam, inputs: Sequence[tuple[Tensor, ...]]
    ) -> list[tuple[Tensor, ...]]:
        """The gradients of the whole batch, one part after the other; processes exchange them with the last one."""
        if not self._speed.cuda_graphs:  # a recording writes its gradients over the last ones
            optimiser.zero_grad(set_to_none=True)
        results = []
        for number, part in enumerate(inputs, 1):
            alone = number < len(inputs) and isinstance(module, DistributedDataParallel)
            with module.no_sync() if alone else nullcontext():  # type: ignore[operator]
                results.append(passes(*part))
        return results

    def _backward(self, loss: Tensor) -> None:
        self.state.scaler.scale(loss / self._speed.accumulate).backward()  # type: ignore[no-untyped-call]

    def _update(self, optimiser: torch.optim.Adam) -> None:
        self.state.scaler.step(optimiser)
        if optimiser is self.state.generators and self.state.averages is not None:
            self.state.averages.follow(self.state.networks)

    def _replayed(self, fake_a: Tensor, fake_b: Tensor) -> tuple[Tensor, Tensor]:
        """Every process keeps the same buffers, so that any number of them gives the same answers."""
        group, state = self._group, self.state
        return (
            group.local_shard(state.replay_a.query(group.all_gather(fake_a))),
            group.local_shard(state.replay_b.query(group.all_gather(fake_b))),
        )

    def _score(self, discriminator: nn.Module, fake: Tensor) -> Tensor:
        score: Tensor = discriminator(augmented(fake.float(), self._objective.augment))
        return score

    def _patches(self, score: Tensor) -> Tensor:
        score = score.float()
        return score if self._objective.patches == "map" else score.mean(dim=(1, 2, 3))

    def _count(self, values: list[Tensor], pairs: int) -> None:
        state = self.state
        finite = torch.stack(values).isfinite().all()
        state.bad_steps = torch.where(finite, torch.zeros_like(state.bad_steps), state.bad_steps + 1)
        state.cycle_sum = state.cycle_sum + torch.where(finite, values[2] + values[3], 0.0)
        state.cycle_count += 1
        state.step += 1
        state.pairs += pairs * self._group.world_size

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = self._speed.autocast
        return nullcontext() if dtype is None else torch.autocast(self._device.type, dtype)

    def _hold_still(self, still: bool) -> None:
        """The generators' update needs the discriminators' gradient towards the picture only, not their weights'."""
        self.state.networks.discriminator_a.requires_grad_(not still)
        self.state.networks.discriminator_b.requires_grad_(not still)

    def _shared(self, module: nn.Module) -> nn.Module:
        if self._group.world_size == 1:
            return module
        places = [self._device.index] if self._device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=places, broadcast_buffers=False, gradient_as_bucket_view=True)


class _Translation(nn.Module):
    """Both generators there and back, in one module: processes exchange all gradients of a pass at once."""

    def __init__(self, networks: Networks, speed: Execution, objective: ObjectiveConfig) -> None:
        super().__init__()
        self.generator_ab, self.generator_ba = networks.generator_ab, networks.generator_ba
        self._batched, self._identity = speed.batched, bool(objective.identity_weight)

    def forward(self, real_a: Tensor, real_b: Tensor) -> tuple[Tensor, ...]:
        """fake_b, fake_a, cycled_a, cycled_b, same_b, same_a; the last two are the real ones when identity is off."""
        fake_b, same_b = self._translate(self.generator_ab, real_a, real_b)
        fake_a, same_a = self._translate(self.generator_ba, real_b, real_a)
        return fake_b, fake_a, self.generator_ba(fake_b), self.generator_ab(fake_a), same_b, same_a

    def _translate(self, generator: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if not self._identity:
            return generator(source), target
        if not self._batched or source.shape != target.shape:
            return generator(source), generator(target)
        translated, same = generator(torch.cat((source, target))).chunk(2)
        return translated, same


class _Judgement(nn.Module):
    """Both discriminators on real and on replayed pictures."""

    def __init__(self, networks: Networks, speed: Execution) -> None:
        super().__init__()
        self.discriminator_a, self.discriminator_b = networks.discriminator_a, networks.discriminator_b
        self._batched = speed.batched

    def forward(self, real_a: Tensor, old_a: Tensor, real_b: Tensor, old_b: Tensor) -> tuple[Tensor, ...]:
        """Raw scores of real_a, old_a, real_b, old_b."""
        return *self._judge(self.discriminator_a, real_a, old_a), *self._judge(self.discriminator_b, real_b, old_b)

    def _judge(self, discriminator: nn.Module, real: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
        if not self._batched or real.shape != old.shape:
            return discriminator(real), discriminator(old)
        score_of_real, score_of_old = discriminator(torch.cat((real, old))).chunk(2)
        return score_of_real, score_of_old
