"""Everything that decides the weights of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyclegan_edge.errors import ConfigError
from cyclegan_edge.train.networks import DiscriminatorConfig, GeneratorConfig

LOAD_SCALE = 1.12  # a crop of 256 is cut from a picture resized to 286


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """The recipe of Zhu et al. 2017 (arXiv:1703.10593) and its reference implementation; stored in every checkpoint."""

    data: Path  # holds trainA/ and trainB/
    size: int = 256  # px, side of the square crop
    batch: int = 1  # pairs per step

    width: int = 64  # channels of the generators' first layer (ngf)
    blocks: int = 9  # residual blocks; the paper uses 6 below 256 px
    discriminator_width: int = 64  # channels of the discriminators' first layer (ndf)
    discriminator_layers: int = 3  # stride-2 layers; 3 gives the 70x70 PatchGAN

    cycle_weight: float = 10.0  # lambda of eq. (3)
    identity_weight: float = 5.0  # section 5.2: 0.5 lambda; 0 turns it off
    pool: int = 50  # generated pictures each replay buffer keeps; 0 turns it off

    learning_rate: float = 2e-4  # constant, then linear to 0
    beta1: float = 0.5  # Adam
    beta2: float = 0.999  # Adam
    constant_epochs: int = 100  # at learning_rate; an epoch is as many pairs as the larger folder has pictures
    decay_epochs: int = 100  # linear from learning_rate to 0
    steps: int | None = None  # instead of epochs: this many steps, the second half of them in linear decay

    seed: int = 0  # of the start, the order, the crops, and the replay buffers
    device: Literal["auto", "cuda", "cpu"] = "auto"  # auto: CUDA when there is one
    workers: int = 2  # threads that decode and resize
    cache: Literal["ram", "disk", "none"] = "ram"  # where decoded pictures are kept between epochs
    cache_mib: int = 4096  # memory that cache="ram" may take; what does not fit is decoded every time
    save_every: int = 1000  # steps between checkpoints
    sample_every: int = 200  # steps between sample pictures
    log_every: int = 20  # steps between TensorBoard points

    def __post_init__(self) -> None:
        if self.size % 4 or self.size < 32:
            raise ConfigError(
                f"size is {self.size}, but the generator halves its input twice and the discriminator "
                f"three times, so size must be a multiple of 4 from 32 on; try {max(32, self.size // 4 * 4)}."
            )
        shortest = 2 ** (self.discriminator_layers + 2)
        if self.size < shortest:
            raise ConfigError(
                f"discriminator_layers is {self.discriminator_layers}, which leaves no patch of a {self.size} px "
                f"crop; use fewer layers or a size of at least {shortest}."
            )
        for name in (
            "batch",
            "width",
            "discriminator_width",
            "discriminator_layers",
            "save_every",
            "sample_every",
            "log_every",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, expected at least 1.")
        for name in (
            "blocks",
            "cycle_weight",
            "identity_weight",
            "pool",
            "constant_epochs",
            "decay_epochs",
            "workers",
            "cache_mib",
            "seed",
        ):
            if not getattr(self, name) >= 0:  # also refuses NaN
                raise ConfigError(f"{name} is {getattr(self, name)}, expected 0 or more.")
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}, expected more than 0, for instance 2e-4.")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps is {self.steps}, expected at least 1, or none to count epochs.")
        if self.steps is None and self.constant_epochs + self.decay_epochs < 1:
            raise ConfigError("constant_epochs and decay_epochs are both 0, so there is nothing to train; raise one.")

    @property
    def load_size(self) -> int:
        """px, side of the square the picture is resized to before the crop: 286 for 256, 143 for 128."""
        return int(self.size * LOAD_SCALE)

    @property
    def generator(self) -> GeneratorConfig:
        """The settings that decide a generator's shape."""
        return GeneratorConfig(width=self.width, blocks=self.blocks)

    @property
    def discriminator(self) -> DiscriminatorConfig:
        """The settings that decide a discriminator's shape."""
        return DiscriminatorConfig(width=self.discriminator_width, layers=self.discriminator_layers)


def learning_rate_factor(config: TrainConfig, step: int, steps_per_epoch: int) -> float:
    """The share of `learning_rate` that step number `step` (from 0) uses, 0..1.

    By epochs it is the reference's rule: 1 - max(0, e + 1 - constant_epochs) / (decay_epochs + 1) in epoch e (from 0).
    By steps it is the same line with finer treads: constant for the first half, then down to 0 past the last step.
    """
    if config.steps is not None:
        constant, decay, position = config.steps - config.steps // 2, config.steps // 2, step
    else:
        constant, decay, position = config.constant_epochs, config.decay_epochs, step // steps_per_epoch
    return 1.0 - max(0, position + 1 - constant) / (decay + 1)


def total_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """How many steps the whole run has."""
    if config.steps is not None:
        return config.steps
    return (config.constant_epochs + config.decay_epochs) * steps_per_epoch
