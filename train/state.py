"""What a step changes: networks, optimisers, replay buffers, counters. A checkpoint holds all of it."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, nn

from cyclegan_edge.train.config import TrainConfig
from cyclegan_edge.train.diagnostics import DiagnosticsState
from cyclegan_edge.train.networks import PatchDiscriminator, init_weights, new_generator
from cyclegan_edge.train.replay import ReplayBuffer
from cyclegan_edge.train.schedule import Plateau

Weights = Mapping[str, Tensor]  # a state dict

_FIRST_SCALE = 65536.0  # of fp16, as torch's own default; 1 in every other precision


@dataclass(frozen=True, slots=True)
class Networks:
    """`generator_ab` turns A into B, `discriminator_b` judges B."""

    generator_ab: nn.Module
    generator_ba: nn.Module
    discriminator_a: nn.Module
    discriminator_b: nn.Module

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """Name and network, in the order of the fields."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Averages:
    """Moving averages of the generators' weights, which give steadier pictures than the last step's."""

    generator_ab: nn.Module
    generator_ba: nn.Module
    decay: float

    def items(self) -> Iterator[tuple[str, nn.Module]]:
        """Name and network."""
        return iter((("generator_ab", self.generator_ab), ("generator_ba", self.generator_ba)))

    def follow(self, networks: Networks) -> None:
        """average <- decay average + (1 - decay) weights."""
        for mean, live in (
            (self.generator_ab, networks.generator_ab),
            (self.generator_ba, networks.generator_ba),
        ):
            weights = [parameter.detach() for parameter in live.parameters()]
            torch._foreach_lerp_(list(mean.parameters()), weights, 1.0 - self.decay)


@dataclass(slots=True)
class TrainState:
    """Everything that a step changes."""

    networks: Networks
    generators: torch.optim.Adam
    discriminators: torch.optim.Adam
    scaler: torch.amp.GradScaler  # skips an update whose gradients are not finite, in every precision
    replay_a: ReplayBuffer
    replay_b: ReplayBuffer
    averages: Averages | None
    plateau: Plateau
    step: int = 0  # steps taken
    pairs: int = 0  # pairs seen by all processes together
    seconds: float = 0.0  # in training
    back_off: float = 1.0  # factor of the learning rate, halved when gradients were not finite
    best: dict[str, float] = field(default_factory=dict)  # the best evaluation so far, by metric
    diagnostics: DiagnosticsState | None = None  # what diagnostics.py remembers
    cycle_sum: Tensor = field(default_factory=lambda: torch.zeros(()))  # of the steps of this epoch
    cycle_count: int = 0
    bad_steps: Tensor = field(default_factory=lambda: torch.zeros(()))  # steps in a row with non-finite losses

    def count_step(self, finite: Tensor, cycle_loss: Tensor, *, pairs: int) -> None:
        """Note a step of so many pairs; `finite` (bool, 0-d) and `cycle_loss` (0-d) stay on the device."""
        self.bad_steps = torch.where(finite, torch.zeros_like(self.bad_steps), self.bad_steps + 1)
        self.cycle_sum = self.cycle_sum + torch.where(finite, cycle_loss, 0.0)
        self.cycle_count += 1
        self.step += 1
        self.pairs += pairs


def new_networks(config: TrainConfig) -> Networks:
    """The networks that `config` describes, with torch's own initial weights."""
    channels_a, channels_b = config.pictures.channels_a, config.pictures.channels_b
    return Networks(
        new_generator(config.generator, channels_a, channels_b),
        new_generator(config.generator, channels_b, channels_a),
        PatchDiscriminator(config.discriminator, channels_a),
        PatchDiscriminator(config.discriminator, channels_b),
    )


def new_state(config: TrainConfig, device: torch.device, weights: Mapping[str, Weights] = {}) -> TrainState:
    """Freshly initialised networks, fresh optimisers and empty replay buffers, all decided by `config.seed`.

    `weights` has those of the networks, by their names, that do not start fresh; their shapes are the settings'."""
    random = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):  # torch's own initial weights are overwritten, and cost no random numbers
        networks = new_networks(config)
    for name, network in networks.items():
        init_weights(network, random, config.start, config.start_gain)
        if name in weights:
            network.load_state_dict(weights[name])
        network.to(device)
    fp16 = config.speed.precision == "fp16"
    return TrainState(
        networks,
        generators=_adam(config, networks.generator_ab, networks.generator_ba),
        discriminators=_adam(config, networks.discriminator_a, networks.discriminator_b),
        scaler=torch.amp.GradScaler(
            device.type, init_scale=_FIRST_SCALE if fp16 else 1.0, growth_interval=2000 if fp16 else 2**30
        ),
        replay_a=ReplayBuffer(config.objective.pool, seed=config.seed + 1),
        replay_b=ReplayBuffer(config.objective.pool, seed=config.seed + 2),
        averages=_averages(networks, config.optimiser.ema),
        plateau=Plateau(),
        cycle_sum=torch.zeros((), device=device),
        bad_steps=torch.zeros((), device=device),
    )


def _averages(networks: Networks, decay: float) -> Averages | None:
    if not decay:
        return None
    ab, ba = (copy.deepcopy(one).requires_grad_(False) for one in (networks.generator_ab, networks.generator_ba))
    return Averages(ab, ba, decay)


def _adam(config: TrainConfig, *networks: nn.Module) -> torch.optim.Adam:
    parameters = [parameter for network in networks for parameter in network.parameters()]
    settings = config.optimiser
    return torch.optim.Adam(parameters, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True)
