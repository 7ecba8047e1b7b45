"""Everything that decides a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cyclegan_edge.contract import MIN_SIDE
from cyclegan_edge.errors import ConfigError
from cyclegan_edge.train.data.crops import Crops, PicturesConfig
from cyclegan_edge.train.data.layout import split_domains
from cyclegan_edge.train.evaluate.quality import Metric
from cyclegan_edge.train.execution import ExecutionConfig
from cyclegan_edge.train.losses import ObjectiveConfig
from cyclegan_edge.train.networks import DiscriminatorConfig, GeneratorConfig, InitMethod
from cyclegan_edge.train.schedule import ScheduleConfig

Preset = Literal["paper", "short-side"]

RETIRED = (  # settings of older checkpoints
    *("discriminator.kind", "objective.penalty_weight", "pictures.cache", "speed.fused"),
    *("schedule.drop_epochs", "schedule.drop_factor"),
    *("schedule.plateau_epochs", "schedule.plateau_factor", "schedule.plateau_threshold"),
)

MAX_SIZE = 1 << 14  # px
MAX_BATCH = 1 << 12

PRESETS: dict[Preset, dict[str, object]] = {
    "paper": {},  # every default is the paper's, as its reference implementation has it
    "short-side": {"pictures.mode": "short_side_and_crop", "objective.patches": "mean"},  # as aitorzip/PyTorch-CycleGAN
}


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimiserConfig:
    """Adam over both generators, and another over both discriminators."""

    learning_rate: float = 2e-4  # at the start; see schedule
    beta1: float = 0.5
    beta2: float = 0.999
    ema: float = 0.0  # decay of the generators' moving average, for instance 0.999; 0 keeps none

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError(f"optimiser.learning_rate is {self.learning_rate}, expected more than 0, such as 2e-4.")
        for name in ("beta1", "beta2", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"optimiser.{name} is {getattr(self, name)}, expected at least 0 and less than 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputConfig:
    """What a run leaves on disk, and how often, in steps."""

    log_every: int = 20  # TensorBoard points and the check for trouble
    sample_every: int = 200  # sample pictures
    save_every: int = 1000  # checkpoints
    keep: int = 2  # the last so many checkpoints stay
    evaluate_every: int = 0  # measure on the test pictures and keep the best checkpoint; 0: never
    metric: Metric = "cycle"  # decides which is best; psnr and ssim need truthB/, fid and kid a feature network
    features: Path | None = None  # TorchScript network for fid and kid; none: Inception
    evaluate_on: int = 16  # test pictures of each domain
    wandb: bool = False  # curves and samples also to Weights & Biases; needs `pip install wandb`

    def __post_init__(self) -> None:
        for name in ("log_every", "sample_every", "save_every", "keep", "evaluate_on"):
            if getattr(self, name) < 1:
                raise ConfigError(f"output.{name} is {getattr(self, name)}, expected at least 1.")
        if self.evaluate_every < 0:
            raise ConfigError(f"output.evaluate_every is {self.evaluate_every}, expected 0 or more.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The model whose weights a run started from; `train --from` writes it."""

    file: str
    sha256: str
    step: int | None = None  # steps it had taken; None: the file does not say


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """The recipe of Zhu et al. 2017 (arXiv:1703.10593) and its reference implementation; stored in every checkpoint."""

    data: (
        str  # folder that holds trainA/ and trainB/, or WebDataset shards: a folder of them, or shards/{0000..0099}.tar
    )
    domains: str = (
        ""  # names of the folders of A and B in data, as in "summer,winter"; empty: trainA, trainB, or a pair
    )
    size: int = 256  # px, side of the square crop
    batch: int = 1  # pairs per step, over all processes
    seed: int = 0  # of the start, the order, the crops, and the replay buffers
    device: Literal["auto", "cuda", "cpu"] = "auto"  # auto: CUDA when there is one
    start: InitMethod = "normal"  # distribution of the initial weights
    start_gain: float = 0.02  # deviation of "normal", gain of "xavier"
    origin: Origin | None = None  # None: every network starts from `start`

    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    speed: ExecutionConfig = field(default_factory=ExecutionConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    def __post_init__(self) -> None:
        if self.domains:
            split_domains(self.domains)
        multiple = self.generator.multiple
        if self.size % multiple or self.size < 32:
            raise ConfigError(
                f"size is {self.size}, but the {self.generator.kind} generator needs a multiple of {multiple} from 32 "
                f"on; try {max(32, multiple, self.size // multiple * multiple)}."
            )
        if self.size > MAX_SIZE:
            raise ConfigError(f"size is {self.size}, expected at most {MAX_SIZE}.")
        if self.size < self.discriminator.smallest:
            raise ConfigError(
                f"discriminator.layers is {self.discriminator.layers}, which leaves no patch of a {self.size} px "
                f"crop; use fewer layers or a size of at least {self.discriminator.smallest}."
            )
        check_batch_and_seed(self.batch, self.seed)
        if not self.start_gain > 0:
            raise ConfigError(f"start_gain is {self.start_gain}, expected more than 0; the paper's is 0.02.")
        if self.pictures.load_size is not None and self.pictures.load_size < self.size and self.pictures.crops:
            raise ConfigError(
                f"pictures.load_size is {self.pictures.load_size}, less than the crop of {self.size}; "
                f"leave it out for {self.load_size_of(self.size)}."
            )
        if not self.pictures.crops and self.batch > 1:
            raise ConfigError(
                f"pictures.mode is {self.pictures.mode!r}, whose pictures differ in size, so batch must be 1; "
                f"it is {self.batch}."
            )
        if self.pictures.colour_a != self.pictures.colour_b and self.objective.identity_weight:
            raise ConfigError(
                "One domain is grey and the other in colour, so no generator can be given the other domain's pictures; "
                "set objective.identity_weight=0."
            )

    @staticmethod
    def load_size_of(size: int) -> int:
        """px: 286 for 256, 143 for 128, as in the paper."""
        return int(size * 1.12)

    @property
    def load_size(self) -> int:
        """px that a picture is resized to before the crop."""
        return self.pictures.load_size or self.load_size_of(self.size)

    @property
    def crops(self) -> Crops:
        """Where the crop of a picture lies."""
        return Crops(
            pictures=self.pictures,
            load_size=self.load_size,
            size=self.size,
            multiple=self.generator.multiple,
            smallest=max(MIN_SIDE, self.discriminator.smallest),
            seed=self.seed,
        )


def check_batch_and_seed(batch: int, seed: int) -> None:
    """Raise ConfigError for what no training can have."""
    if not 1 <= batch <= MAX_BATCH:
        raise ConfigError(f"batch is {batch}, expected 1 to {MAX_BATCH}.")
    if seed < 0:
        raise ConfigError(f"seed is {seed}, expected 0 or more.")
